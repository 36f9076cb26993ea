"""The options of tools/train.py, and why their defaults are what they are."""

import argparse

# name, type or choices, default, what it is and why the default is what it is
OPTIONS = {
    "the run": [
        ("steps", int, 0, "ends after so many steps. 0 is 3000 without --minutes, which is 12 "
         "million tokens, two passes over 20 MB of text; and any number with it"),
        ("minutes", float, 0, "ends after so much time, with the tokenizer, without the final "
         "table; or after --steps, if that is sooner. 0: no limit, so that runs can be repeated"),
        ("seed", int, 0, "of weights, windows and the tokenizer's sample: any is as good"),
        ("save-every", float, 10, "minutes between checkpoints: what a power cut may cost"),
        ("evals", int, 4, "validations on the way: enough to see it learn, at little cost"),
        ("log-every", float, 10, "seconds between lines of progress"),
    ],
    "texts and tokenizer": [
        ("langs", str, "", "of those in TEXTS, as en,fr; by default all"),
        ("mix", str, "", "weights by which windows are drawn, as en=6,fr=1, languages not named "
         "weighing 1; by default sizes to the power of --temper"),
        ("temper", float, .5, "1 draws languages by size, 0 all alike; between the two, small ones "
         "are seen often enough and not again and again"),
        ("vocab", int, 4096, "pieces of the tokenizer: fewer learn faster a second than 8192, and "
         "leave it to the layers to tell languages of one script apart"),
        ("coverage", float, .9998, "part of all characters that are pieces, from 0.98 to 1; others "
         "become bytes, which Chinese and Japanese share, and then neurons too. Fewer leave more "
         "of a small vocabulary to words"),
        ("tokenizer-bytes", int, 10_000_000, "of text that the tokenizer learns from, drawn as the "
         "mix says: more changes few pieces"),
        ("tokenizer", str, "", "a tokenizer.model to use; by default one is trained"),
    ],
    "the model": [
        ("layers", int, 6, "enough for languages at both ends and a middle"),
        ("width", int, 128, "of embeddings and layers: a core does some 7000 tokens a second"),
        ("heads", int, 4, "of attention: of 32 dimensions each"),
        ("kv-heads", int, 2, "key-value heads: half as many, at no loss, leave more to neurons"),
        ("ffn", int, 1024, "neurons of a layer: wider than usual, since they are the subject"),
        ("context", int, 128, "tokens of a window, and the model's limit: a few sentences, while "
         "attention is cheap, and a step has windows of many texts"),
        ("rope-base", float, 10000, "of the rotary positions: LLaMA's"),
        ("init", float, .02, "standard deviation of the first weights: LLaMA's"),
        ("tied", ["yes", "no"], "yes", "one matrix embeds and predicts: a second would cost as "
         "many parameters as hundreds of neurons"),
        ("weights", ["bf16", "f32"], "bf16", "of the saved model: half as large; the final table "
         "is of the weights as saved"),
    ],
    "learning": [
        ("batch", int, 4096, "tokens of a step: fewer make noisy steps, more make few of them"),
        ("bos", float, .5, "part of the windows that begin with <s>, for a model that works with "
         "and without it"),
        ("optimizer", ["adamw", "muon"], "adamw", "muon takes the layers' matrices and leaves "
         "adamw the rest; it predicts better after as many minutes, but spreads a language over so "
         "many neurons that each matters little"),
        ("lr", float, 3e-3, "highest learning rate: high, as small models bear it"),
        ("warmup", float, .03, "part of the run in which it rises: Adam's averages settle"),
        ("final-lr", float, 0, "part of it where the cosine ends: nothing is learnt afterwards"),
        ("weight-decay", float, .1, "of matrices: usual"),
        ("clip", float, 1, "longest gradient, 0 for any: usual, and it rarely bites"),
    ],
    "rare neurons": [
        ("activity", float, .3, "times the neurons' activity is added to the loss: they become "
         "rarer, so that each matters more, for a higher perplexity. 0 shows the effect faintly; "
         "what is enough grows with --ffn, and twice as much makes languages share neurons"),
        ("activity-kind", ["mean", "group", "root", "rare"], "root", "summed over layers, mean: "
         "the mean positive activation; group: its root mean square over each window, which spares "
         "neurons that work in few windows; root: the square root of that, so that a window works "
         "few neurons hard, whichever they are; rare: (mean of root over windows)^2 / its root "
         "mean square, which is less for neurons of few windows. root shows most of the effect"),
        ("activity-warmup", float, .1, "part of the run in which the penalty rises: at once it can "
         "silence neurons that have not learnt anything yet"),
    ],
    "the machine": [
        ("device", str, "auto", "cuda if there is one, else cpu"),
        ("dtype", ["auto", "f32", "bf16"], "auto", "of products: bf16 where the device has "
         "instructions for it, a third faster on such a processor"),
        ("threads", int, 0, "of the processor: 0 takes all cores"),
    ],
}


def options_parser(description):
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", metavar="TEXTS", help="the folder of texts")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL", help="the model's folder")
    parser.add_argument("--resume", action="store_true", help="go on from checkpoint.pt, with its "
                        "options; only how long, how often and where may change")
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, kind, default, text in options:
            how = {"choices": kind} if isinstance(kind, list) else {
                "type": kind, "metavar": {int: "N", float: "X", str: "TEXT"}[kind]}
            group.add_argument("--" + name, default=default, **how,
                               help="(%s) %s" % (default or "0" if default != "" else "none", text))
    return parser
