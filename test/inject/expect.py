"""What is right when something goes wrong, whatever it was.

Either nothing came of it: the run ends as the good one does, with the same bytes. Or it ends with
status 1 and one line that begins `lape:`, and everything lies there as it did before; but what
--save-every has saved, which must be good to go on from.
"""

import copy

import cases

# Those after which a result must not be called good: it may be none, or of half a text ...
MUST_FAIL = {"fsync", "fdatasync", "rename", "fclose", "fflush", "fwrite", "fputs", "fputc",
             "fprintf", "printf", "read", "fread", "write", "mmap", "calloc", "realloc",
             "aligned_alloc"}
# ... those that come when the result has its name already, and it cannot be taken back ...
AFTERWARDS = {"open_folder", "fsync_folder"}
# ... and those that only take away what is not wanted any more.
TIDYING = {"remove", "unlink"}


def message(said, loud):
    """What is wrong with what a failed run said; None: nothing."""
    lines = said.decode("utf-8", "replace").split("\n")
    own = [line for line in lines if line.startswith("lape: ")]
    if lines[-1] or len(own) != 1 or own[0] != lines[-2]:
        return "not one line at the end that begins 'lape:'"
    if len(lines) != 2 and not loud:
        return "more than one line"
    if "Success" in own[0] or len(own[0]) < 12:
        return "a message that says nothing"
    return None


def resumed(case, place, good):
    """What is wrong with going on from what is saved; None: nothing."""
    on = copy.copy(case)
    on.words = case.words + ([] if "--resume" in case.words else ["--resume"])
    status, _, said, found = cases.run(on, place)
    if status != 0 or found.get("out") != good[3].get("out"):
        return "what is saved is no good to go on from: %s" % said.decode("utf-8", "replace").strip()
    return None


def same_files(case, found, want, call=None):
    """What lies there against what should; what is saved aside where it may have changed."""
    may = {"out.partial"} if case.resumable or call in TIDYING | AFTERWARDS else set()
    found, want = ({name: data for name, data in files.items() if name not in may}
                   for files in (found, want))
    names = sorted(name for name in {**found, **want} if found.get(name) != want.get(name))
    return ", ".join("%s %s" % (name, "left behind" if name not in want else
                                "is gone" if name not in found else "is changed")
                     for name in names) or None


def complaint(case, before, good, now, call=None):
    """What is wrong with a run in which a call failed, or the surroundings; None: nothing."""
    status, out, said, found = now
    if status is None:
        return "hangs"
    if status < 0:
        return "killed by signal %d" % -status
    if status == good[0] and call not in MUST_FAIL:
        if out != good[1]:
            return "status %d, but it printed something else" % status
        if not case.loud and said != good[2]:
            return "status %d, but it said something else" % status
        return same_files(case, found, good[3], call)
    if status != 1:
        return "status %d" % status
    if call in AFTERWARDS and same_files(case, found, good[3], call) is None:
        return message(said, case.loud)
    return message(said, case.loud) or same_files(case, found, before)
