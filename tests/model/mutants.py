# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module's guards, each with what it looks like without one."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.model.build import Sanitizer


@dataclass(frozen=True)
class Mutant:
    """In `file` the text `old`, which is there once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    seed: int = 0  #: of a run that finds it; 0: none is known
    sanitizer: Sanitizer = Sanitizer.ASAN  #: that run's
    says: str = ""  #: in what that run says


MUTANTS = (
    Mutant(
        "F1: unregister does not wait for callbacks that are not recorded",
        "watch.c",
        "\tif (mtw_unknown_callback(mw->domid))\n",
        "\tif (0 && mtw_unknown_callback(mw->domid))\n",
        seed=129,
    ),
    Mutant(
        "F2: only domains that have a backend wait for xenwatch",
        "domain.c",
        "\tbitmap_set(passed, 0, top + 1);\n",
        "",
        seed=40,
        says="is answered before the older",
    ),
    Mutant(
        "F3: a start that failed while nobody waited for it is not tried again",
        "main.c",
        "\tif (err && !stuck && !askers) {\n",
        "\tif (0) {\n",
        seed=100,
        says="the module is loaded and not on",
    ),
    Mutant(
        "F2: an event from before the module is xenwatch's though the domid has a thread by now",
        "watch.c",
        "\tif (mw && mtw_watch_take_back(mw, path)) {\n",
        "\tif (0) {\n",
        seed=232,
        says="is in two places",
    ),
    Mutant(
        "F2: who gets a thread while xenwatch has its older event does not wait",
        "domain.c",
        "\t\tif (!d)\n\t\t\tset_bit(domid, passed);\n\t\tspin_unlock",
        "\t\tspin_unlock",
        seed=1463,
        says="is in two places",
    ),
    Mutant(
        "F4: domid 0 does not wait for xenwatch",
        "domain.c",
        "\tbitmap_set(passed, 0, top + 1);\n",
        "\tbitmap_set(passed, 1, top);\n",
        seed=169,
    ),
    Mutant(
        "F4: a frontend's own watch is left to xenwatch",
        "watch.c",
        "return READ_ONCE(mtw_frontends) ? 0 : MTW_NONE;",
        "return MTW_NONE;",
        seed=5,
    ),
    Mutant(
        "F4: who looks again does not look at frontends",
        "rescan.c",
        '\t\terr = mtw_rescan_add_stored(&found, "device", domid);\n',
        "\t\terr = 0;\n",
    ),
    Mutant(
        "F4: nobody but xenwatch sets the balloon's target",
        "main.c",
        "mtw_node_start() ?: mtw_balloon_start();",
        "mtw_node_start();",
        seed=94,
        says="the target is not met",
    ),
    Mutant(
        "F4: user space's watches are left to xenwatch",
        "watch.c",
        "\t\treturn MTW_USERS;\n",
        "\t\treturn MTW_NONE;\n",
        seed=94,
        says="user space is not told",
    ),
    Mutant(
        "F4: a watch of user space is taken before there may be threads",
        "watch.c",
        "(domid == MTW_USERS ? !mtw_dom_is_open() : ",
        "(domid == MTW_USERS ? false : ",
        seed=67,
    ),
    Mutant(
        "F4: user space's events are one, with xenwatch",
        "watch.c",
        "(mtw_watch_is_users(mw) || !shadow->nr_pending)",
        "!shadow->nr_pending",
        seed=16,
        says="user space is told of",
    ),
    Mutant(
        "F4: user space's events are one, with a thread",
        "domain.c",
        "!mtw_watch_is_users(watch) || !mtw_dom_queue_path(d, watch, path, strlen(path))",
        "true",
        seed=3,
        says="user space is told of",
    ),
    Mutant(
        "F4: an event of user space that cannot be kept is lost",
        "domain.c",
        "!mtw_watch_is_users(watch) || !mtw_dom_queue_path(d, watch, path, strlen(path))",
        "!mtw_watch_is_users(watch) || (mtw_dom_queue_path(d, watch, path, strlen(path)), 0)",
        seed=7,
    ),
    Mutant(
        "F4: what is queued for user space stays there when it does not watch any more",
        "domain.c",
        "\tif (watch->global || mtw_watch_is_users(watch))\n",
        "\tif (watch->global)\n",
        seed=10,
    ),
    Mutant(
        "F4: what xenwatch has of user space is dropped when its watch is given back",
        "watch.c",
        "alive = !mw->dead && (!mw->returned || mtw_watch_is_users(mw));",
        "alive = !mw->dead && !mw->returned;",
        seed=241,
    ),
    Mutant(
        "F4: user space's shadow goes before xenwatch has come by",
        "watch.c",
        "\twait_event(mtw_changed, mtw_probe_passed(ticket));\n",
        "",
        seed=241,
    ),
    Mutant(
        "F4: user space is told by the shadow of a watch that it has taken back",
        "watch.c",
        "\tmtw_watch_end(mw, &mw->dead);\n\tours =",
        "\tif (!native)\n\t\tmtw_watch_end(mw, &mw->dead);\n\tours =",
        seed=306,
    ),
    Mutant(
        "F8: who sleeps for xs_watch_rwsem is not waited for",
        "adopt.c",
        "\terr = mtw_look_at_all(mtw_see_nothing);\n",
        "\terr = 0;\n",
    ),
    Mutant(
        "a warning of xenwatch's silence whose timer was early is not given",
        "probe.c",
        "\tif (left)\n\t\tqueue_delayed_work(mtw_wq, &overdue, left);\n",
        "",
        seed=45,
        says="nobody says that xenwatch is stuck",
    ),
    Mutant(
        "with too many domains to list, nobody waits for xenwatch until the highest is found",
        "adopt.c",
        "\tmtw_dom_mark_all_passed();\n",
        "",
        seed=39,
    ),
    Mutant(
        "events are queued last in, first out",
        "domain.c",
        "list_add_tail(&event->list, &d->events)",
        "list_add(&event->list, &d->events)",
        seed=1,
        says="is answered before the older",
    ),
    Mutant(
        "unregister does not wait for the domain's thread",
        "domain.c",
        "\tmtw_run_wait(&d->run, watch->domid);\n",
        "",
        seed=1,
        says="unregister returns while",
    ),
    Mutant(
        "unregister does not wait for xenwatch's callback of the domain",
        "watch.c",
        "\tmtw_run_wait(&mtw_xenwatch, mw->domid);\n",
        "",
        seed=61,
        says="unregister returns while",
    ),
    Mutant(
        "a thread begins before xenwatch has come far enough",
        "domain.c",
        "if (over || (ticket && !mtw_probe_passed(ticket)))",
        "if (over)",
        seed=17,
        says="is answered before the older",
    ),
    Mutant(
        "nobody notes that xenwatch has events of a domain",
        "domain.c",
        "\t\tset_bit(domid, passed);\n\t\tatomic_long_inc",
        "\t\tatomic_long_inc",
        seed=17,
        says="is answered before the older",
    ),
    Mutant(
        "the module goes while somebody is on the way into it",
        "hook.c",
        "\tsynchronize_rcu_tasks();\t/* who was led here",
        "\t/* who was led here",
        seed=1466,
    ),
    Mutant(
        "the module goes while somebody is inside",
        "hook.c",
        "\twhile (atomic_read_acquire(&inside))",
        "\twhile (0 && atomic_read_acquire(&inside))",
        seed=14,
    ),
    Mutant(
        "the module goes before the last step out of it",
        "hook.c",
        "\tsynchronize_rcu_tasks();\t/* … the last step, too */\n",
        "",
        seed=44,
    ),
    Mutant(
        "a device's watch is taken from who is registering it",
        "adopt.c",
        "err = mtw_wait_for_old_callers() ?: mtw_look",
        "err = mtw_look",
        seed=720,
    ),
    Mutant(
        "a domain's thread holds no reference to the module",
        "domain.c",
        "\t__module_get(THIS_MODULE);\t/* its thread's; being on holds another */\n",
        "",
        seed=1,
        says="a module's reference that is none",
    ),
    Mutant(
        "adopted watches are not given back",
        "main.c",
        '\tmtw_insist(mtw_adopt_return, "give back the watches that are older than the module");\n',
        "",
        seed=1,
    ),
    Mutant(
        "watches with a shadow are not given back",
        "main.c",
        '\tmtw_insist(mtw_watch_return_all, "give watches back");\n',
        "",
        seed=1,
        says="allocations are left behind",
    ),
    Mutant(
        "nobody waits for watches that are still being unregistered",
        "main.c",
        "\twait_event(mtw_changed, mtw_reaped());\n",
        "",
        seed=38,
    ),
    Mutant(
        "an adopted watch that its driver could not register is not given back",
        "adopt.c",
        "\tif (!err)\t\t/* none is on the list any more, so nobody reads them */\n"
        "\t\tmtw_watch_restore_adopted();\n",
        "",
        seed=1795921933,
    ),
    Mutant(
        "an event that could not be kept is forgotten",
        "domain.c",
        "\t\tWRITE_ONCE(d->rescan, true);\n\t\td->rescans++;",
        "\t\td->rescans++;",
        seed=352,
        says="is not as the store has it",
    ),
    Mutant(
        "a dead watch still gets events",
        "watch.c",
        "taken = mw->dead || mw->returned || (domid",
        "taken = mw->returned || (domid",
        seed=1,
        says="heap-use-after-free",
    ),
    Mutant(
        "giving back does not exclude unregistering",
        "watch.c",
        "\tif (!mw->dead && !mw->returned) {\n",
        "\tif (!mw->returned) {\n",
        seed=498,
    ),
    Mutant(
        "an event holds no reference to its watch",
        "domain.c",
        "\tmtw_watch_get(event->watch);\n",
        "",
        seed=1,
        says="heap-use-after-free",
    ),
    Mutant(
        "a domain that is dead takes events",
        "domain.c",
        "\tif (d->dead) {\n\t\tspin_unlock(&d->run.lock);\n\t\treturn false;\n\t}\n",
        "",
        seed=31,
        says="allocations are left behind",
    ),
    Mutant(
        "F7: the other end's watch goes to the other end's thread",
        "watch.c",
        "mtw_domid_of(mtw_watch_device(watch) ?: watch->node)",
        "mtw_domid_of(watch->node)",
        seed=3,
    ),
    Mutant(
        "a warning whose timer was early is not given",
        "run.c",
        "\tif (left)\n\t\tqueue_delayed_work(mtw_wq, &run->overdue, left);\n",
        "",
        seed=14,
        says="is not warned about",
    ),
    Mutant(
        "a callback is warned about by the work of the one before it, too",
        "run.c",
        "\tif (!run->watch || run->warned || ",
        "\tif (!run->watch || ",
        seed=14,
    ),
    Mutant(
        "the last callback is not ordered before who waited for it",
        "run.c",
        "smp_load_acquire(&run->seq)",
        "READ_ONCE(run->seq)",
        sanitizer=Sanitizer.TSAN,
        says="data race",
    ),
)


def mutated(sources: Path, mutant: Mutant, target: Path) -> Path:
    """Copy the module, changed. Raises ValueError when the text is not there exactly once."""
    shutil.copytree(sources, target)
    path = target / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.name}: {mutant.file} has its text {text.count(mutant.old)} times"
        )
    path.write_text(text.replace(mutant.old, mutant.new))
    return target
