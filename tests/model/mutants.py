# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module's guards, each with what it looks like without one."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.model.build import Sanitizer


@dataclass(frozen=True)
class Change:
    """In `file` the text `old`, which is there once, becomes `new`."""

    file: str
    old: str
    new: str

    def apply(self, sources: Path) -> None:
        """Raises ValueError when the text is not there exactly once."""
        path = sources / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {self.old!r} {text.count(self.old)} times")
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Mutant:
    """In `file` the text `old`, which is there once, becomes `new`.

    Where only bad luck shows that the guard is missing, a `strain` makes it likely; the module with
    its guard withstands that.
    """

    name: str
    file: str
    old: str
    new: str
    seed: int = 0  #: of a run that finds it; 0: none is known
    sanitizer: Sanitizer = Sanitizer.ASAN  #: that run's
    says: str = ""  #: in what that run says
    strain: tuple[Change, ...] = ()  #: something takes long, or fails, more often than by chance
    knobs: tuple[str, ...] = ()  #: NAME=VALUE: what else makes it likely

    @property
    def options(self) -> list[str]:
        """The model's, for a run that may find it."""
        return [word for knob in self.knobs for word in ("-k", knob)]


def after(file: str, line: str, *, before: bool = False) -> Change:
    """Who has come this far loses his CPU there, now and then."""
    return Change(file, line, f"\tstretch();\n{line}" if before else f"{line}\tstretch();\n")


EVENTS_ARE_LOST = Change(
    "domain.c",
    "if (d->run.depth < MAX_DEPTH)",
    "if (d->run.depth < MAX_DEPTH && !memory_is_short())",
)
LATE_TO_LOOK = Change(
    "main.c", "\tmtw_watch_open(true);\n", "\tmtw_watch_open(true);\n\tmsleep(20000);\n"
)
LATE_TO_ADOPT = Change(
    "main.c", "\t\tmtw_watch_known();\n", "\t\tmtw_watch_known();\n\t\tmsleep(20000);\n"
)
#: Just now somebody registers a watch.
LOADED_AT_A_BAD_MOMENT = Change(
    "main.c", "\terr = mtw_hook();\n", "\tlurk();\n\terr = mtw_hook();\n"
)

#: Who registers a driver's watch loses his CPU, and watches are stopped now and then.
LATE_DRIVERS = ("late_1_in=2", "window_1_in=0", "steal_1_in=0", "hurry_1_in=0")
#: While the module comes and goes a domain's devices change their states and are unbound.
BUSY_DEVICES = (
    "administrators=3",
    "busy_domains=1",
    "cycles=15",
    "haste=3000",
    "long_callback_1_in=2",
    "toggling=1",
)

MUTANTS = (
    Mutant(
        "F6: all callbacks run at once",
        "turn.c",
        "n_counted < mtw_turn_limit() &&",
        "true &&",
        seed=1,
        says="callbacks at once, of at most",
    ),
    Mutant(
        "F6: a turn that is over is counted",
        "turn.c",
        "\tn_counted--;\n",
        "",
        seed=1,
    ),
    Mutant(
        "F6: whose moment is over is counted",
        "turn.c",
        "return ms > 0 ? ms : 0;",
        "return ms > 0 ? ms : 1;",
        seed=1,
    ),
    # A moment is long here: there are too few domains for many short ones.
    Mutant(
        "F6: who has waited for long waits on",
        "turn.c",
        "msecs_to_jiffies(LONGEST));",
        "MAX_SCHEDULE_TIMEOUT);",
        seed=106,
        says="waits for its turn",
        strain=(
            Change("turn.c", "#define MOMENT\t100\t", "#define MOMENT\t100000\t"),
            Change(
                "turn.c",
                "\tmtw_turn_deal();\n\tspin_unlock(&mtw_turn_lock);\n\twait_event",
                "\tmtw_turn_deal();\n\tuint64_t began = now;\n"
                "\tspin_unlock(&mtw_turn_lock);\n\twait_event",
            ),
            Change(
                "turn.c",
                "\tif (!turn->given) {\n",
                '\texpect(now - began < 60 * NSEC, "a domain waits for its turn");\n'
                "\tif (!turn->given) {\n",
            ),
        ),
    ),
    Mutant(
        "F6: nobody looks whether somebody's moment is over",
        "turn.c",
        "\tif (n_waiting) {\n",
        "\tif (0) {\n",
        seed=11000115,
    ),
    Mutant(
        "F6: the work that deals is there after the module",
        "main.c",
        "\tmtw_turn_stop();\n",
        "",
        seed=17,
    ),
    Mutant(
        "1000 nodes: who is listed is not asked about",
        "node.c",
        "\tfor (i = 0; i < ASKERS; i++)\n\t\tmod_delayed_work(mtw_wq, &askers[i].work, 0);\n",
        "",
        seed=13,
        says="have a node, and",
    ),
    Mutant(
        "1000 nodes: an event of a node goes to somebody who does not ask about it",
        "node.c",
        "&askers[domid % ASKERS].work",
        "&askers[0].work",
        seed=9,
        says="has no node and a thread",
    ),
    Mutant(
        "1000 nodes: who has asked about a node does not look whether nodes count any more",
        "domain.c",
        "\tif (!(READ_ONCE(mtw_mode) & MTW_BY_NODE)) {\n",
        "\tif (0) {\n",
        seed=630,
        says="no node counts",
        strain=(after("node.c", "\tanswer = mtw_node_ask(domid);\n"),),
    ),
    # That takes two answers about one node, the older of which is the later one.
    Mutant(
        "1000 nodes: all ask about all",
        "node.c",
        "\t\tif (domid % ASKERS == asker - askers)\n",
        "",
        seed=187,
    ),
    Mutant(
        "1000 nodes: a mode that is set while the module starts is not followed",
        "main.c",
        "now == STARTING || now == ON",
        "now == ON",
        seed=2,
        says="no node counts",
        strain=(
            Change(
                "main.c",
                "\tmtw_adopt_devices();\n",
                "\tmtw_adopt_devices();\n\tmsleep(20000);\n\tif (!knobs.stuck && one_in(2)) {\n"
                "\t\tWRITE_ONCE(mtw_mode, MTW_AUTO);\n\t\tmtw_ask_anew();\n\t}\n",
            ),
            Change(
                "main.c",
                "static int mtw_go_on",
                "static void mtw_ask_anew(void);\nstatic int mtw_go_on",
            ),
        ),
    ),
    Mutant(
        "F6: a thread that ends leaves its turn",
        "domain.c",
        "\t\tmtw_turn_end(&d->turn);\n\t\treturn true;\n",
        "\t\treturn true;\n",
        seed=2,
    ),
    Mutant(
        "F1: unregister does not wait for callbacks that are not recorded",
        "watch.c",
        "\tif (mtw_unknown_callback(mw->domid))\n",
        "\tif (0 && mtw_unknown_callback(mw->domid))\n",
        seed=1002093,
    ),
    Mutant(
        "F2: only domains that have a backend wait for xenwatch",
        "domain.c",
        "\tbitmap_set(passed, 0, top + 1);\n",
        "",
        seed=7,
        says="is answered before the older",
    ),
    Mutant(
        "F3: a start that failed while nobody waited for it is not tried again",
        "main.c",
        "\tif (err && !stuck && !askers) {\n",
        "\tif (0) {\n",
        seed=32,
        says="the module is loaded and not on",
    ),
    Mutant(
        "F2: an event from before the module is xenwatch's though the domid has a thread by now",
        "watch.c",
        "\tif (mw && mtw_watch_take_back(mw, path)) {\n",
        "\tif (0) {\n",
        seed=12000165,
        says="is in two places",
    ),
    Mutant(
        "F2: who gets a thread while xenwatch has its older event does not wait",
        "domain.c",
        "\t\tif (!d)\n\t\t\tmtw_dom_mark(domid);\n\t\tspin_unlock",
        "\t\tspin_unlock",
        seed=95,
        says="is in two places",
    ),
    Mutant(
        "F4: domid 0 does not wait for xenwatch",
        "domain.c",
        "\tbitmap_set(passed, 0, top + 1);\n",
        "\tbitmap_set(passed, 1, top);\n",
        seed=5000047,
    ),
    Mutant(
        "F4: a frontend's own watch is left to xenwatch",
        "watch.c",
        "return READ_ONCE(mtw_frontends) ? 0 : MTW_NONE;",
        "return MTW_NONE;",
        seed=6,
    ),
    Mutant(
        "F4: who looks again does not look at frontends",
        "rescan.c",
        '\t\terr = mtw_rescan_add_stored(&found, "device", domid);\n',
        "\t\terr = 0;\n",
        seed=193,
    ),
    Mutant(
        "F4: nobody but xenwatch sets the balloon's target",
        "main.c",
        "mtw_node_start() ?: mtw_balloon_start();",
        "mtw_node_start();",
        seed=1,
        says="the target is not met",
    ),
    Mutant(
        "F4: user space's watches are left to xenwatch",
        "watch.c",
        "\t\treturn MTW_USERS;\n",
        "\t\treturn MTW_NONE;\n",
        seed=1,
        says="user space is not told",
    ),
    Mutant(
        "F4: a watch of user space is taken before there may be threads",
        "watch.c",
        "(domid == MTW_USERS ? !mtw_dom_is_open() : ",
        "(domid == MTW_USERS ? false : ",
        seed=451,
        says="user space is not told",
        strain=(LATE_TO_LOOK,),
    ),
    Mutant(
        "F4: user space's events are one, with xenwatch",
        "watch.c",
        "(mtw_watch_is_users(mw) || !shadow->nr_pending)",
        "!shadow->nr_pending",
        seed=5000040,
        says="an event of user is lost",
    ),
    Mutant(
        "F4: user space's events are one, with a thread",
        "domain.c",
        "!mtw_watch_is_users(watch) || !mtw_dom_queue_path(d, watch, path, strlen(path))",
        "true",
        seed=1,
        says="user space is not told",
    ),
    Mutant(
        "F4: an event of user space that cannot be kept is lost",
        "domain.c",
        "!mtw_watch_is_users(watch) || !mtw_dom_queue_path(d, watch, path, strlen(path))",
        "!mtw_watch_is_users(watch) || (mtw_dom_queue_path(d, watch, path, strlen(path)), 0)",
        seed=48,
    ),
    Mutant(
        "F4: what is queued for user space stays there when it does not watch any more",
        "domain.c",
        "\tif (watch->global || mtw_watch_is_users(watch))\n",
        "\tif (watch->global)\n",
        seed=11,
    ),
    Mutant(
        "F4: what xenwatch has of user space is dropped when its watch is given back",
        "watch.c",
        "alive = !mw->dead && (!mw->returned || mtw_watch_is_users(mw));",
        "alive = !mw->dead && !mw->returned;",
        seed=165,
        says="user space is told of",
        strain=(after("watch.c", "\tbool alive;\n\n"),),
    ),
    Mutant(
        "F4: user space's shadow goes before xenwatch has come by",
        "watch.c",
        "\twait_event(mtw_changed, mtw_probe_passed(ticket));\n",
        "",
        seed=120,
    ),
    Mutant(
        "F4: user space is told by the shadow of a watch that it has taken back",
        "watch.c",
        "\tmtw_watch_end(mw, &mw->dead);\n\tours =",
        "\tif (!native)\n\t\tmtw_watch_end(mw, &mw->dead);\n\tours =",
        seed=11000068,
    ),
    Mutant(
        "F8: who sleeps for xs_watch_rwsem is not waited for",
        "adopt.c",
        "\terr = mtw_look_at_all(mtw_see_nothing);\n",
        "\terr = 0;\n",
        seed=674,
        says="is answered before the older",
        strain=(LOADED_AT_A_BAD_MOMENT,),
        knobs=LATE_DRIVERS,
    ),
    Mutant(
        "a warning of xenwatch's silence whose timer was early is not given",
        "probe.c",
        "\tif (left)\n\t\tqueue_delayed_work(mtw_wq, &overdue, left);\n",
        "",
        seed=1,
        says="nobody says that xenwatch is stuck",
    ),
    Mutant(
        "with too many domains to list, nobody waits for xenwatch until the highest is found",
        "adopt.c",
        "\tmtw_dom_mark_all_passed();\n",
        "",
        seed=86,
    ),
    Mutant(
        "marks: who had an event in xenwatch once waits for it for good",
        "probe.c",
        "\tmtw_dom_age_marks();\n",
        "",
        seed=108,
        says="a domain waits for it",
    ),
    Mutant(
        "marks: what is younger than the probe is forgotten, too",
        "domain.c",
        "\t\tbitmap_copy(older, passed, MTW_PLACES);\n",
        "\t\tbitmap_zero(older, MTW_PLACES);\n",
        seed=6,
    ),
    Mutant(
        "marks: the next probe may be sent before they age",
        "probe.c",
        "\tmtw_dom_age_marks();\n\tspin_lock(&mtw_probe_lock);\n"
        "\tpassed = sent;\n\tin_flight = false;\n",
        "\tspin_lock(&mtw_probe_lock);\n\tpassed = sent;\n\tin_flight = false;\n"
        "\tmod_delayed_work(mtw_wq, &send_work, 0);\n\tspin_unlock(&mtw_probe_lock);\n"
        "\tmtw_dom_age_marks();\n\tspin_lock(&mtw_probe_lock);\n",
        seed=407,
        says="is answered before the older",
        strain=(
            after("probe.c", "\tmtw_dom_age_marks();\n", before=True),
            after("watch.c", "\tbool alive;\n\n"),
        ),
    ),
    Mutant(
        "marks: they age while there are watches that nobody notes events of",
        "domain.c",
        "\tif (!mtw_adopt_partial()) {\n\t\tbitmap_copy",
        "\tif (1) {\n\t\tbitmap_copy",
        seed=26,
    ),
    Mutant(
        "marks: a watch of user space waits for xenwatch until the highest domid is found",
        "domain.c",
        "\tyes = mtw_dom_waits(domid);\n",
        "\tyes = all_passed || mtw_dom_is_marked(domid);\n",
        seed=5000047,
        says="user space waits for it",
    ),
    Mutant(
        "marks: user space waits for xenwatch until the highest domid is found",
        "domain.c",
        "(all_passed && domid != MTW_USERS) || ",
        "all_passed || ",
        seed=135,
        says="user space is not told",
    ),
    Mutant(
        "threads of no guest count among max_threads",
        "domain.c",
        "\treturn domid && domid != MTW_USERS;\n",
        "\treturn true;\n",
        seed=53,
        says="a new domain waits for it",
    ),
    Mutant(
        "events are queued last in, first out",
        "domain.c",
        "list_add_tail(&event->list, &d->events)",
        "list_add(&event->list, &d->events)",
        seed=1,
        says="user space is told of",
    ),
    Mutant(
        "unregister does not wait for the domain's thread",
        "domain.c",
        "\tmtw_run_wait(&d->run, watch->domid);\n",
        "",
        seed=23,
        says="unregister returns while",
    ),
    Mutant(
        "unregister does not wait for xenwatch's callback of the domain",
        "watch.c",
        "\tmtw_run_wait(&mtw_xenwatch, mw->domid);\n",
        "",
        seed=6000009,
        says="unregister returns while",
    ),
    Mutant(
        "a thread begins before xenwatch has come far enough",
        "domain.c",
        "if (over || (ticket && !mtw_probe_passed(ticket)))",
        "if (over)",
        seed=27,
        says="is in two places",
    ),
    Mutant(
        "nobody notes that xenwatch has events of a domain",
        "domain.c",
        "\t\tmtw_dom_mark(domid);\n\t\tatomic_long_inc",
        "\t\tatomic_long_inc",
        seed=13,
        says="is answered before the older",
    ),
    Mutant(
        "the module goes while somebody is on the way into it",
        "hook.c",
        "\tsynchronize_rcu_tasks();\t/* who was led here",
        "\t/* who was led here",
        seed=3,
        strain=(
            Change(
                "hook.c",
                "\tint err;\n\n\tmtw_come_in();\n",
                "\tint err;\n\n\tstretch();\n\tmtw_come_in();\n",
            ),
        ),
    ),
    Mutant(
        "the module goes while somebody is inside",
        "hook.c",
        "\twhile (atomic_read_acquire(&inside))",
        "\twhile (0 && atomic_read_acquire(&inside))",
        seed=3,
    ),
    Mutant(
        "the module goes before the last step out of it",
        "hook.c",
        "\tsynchronize_rcu_tasks();\t/* … the last step, too */\n",
        "",
        seed=3,
    ),
    Mutant(
        "a device's watch is taken from who is registering it",
        "adopt.c",
        "err = mtw_wait_for_old_callers() ?: mtw_look",
        "err = mtw_look",
        seed=12,
        says="is answered before the older",
        strain=(LOADED_AT_A_BAD_MOMENT,),
        knobs=LATE_DRIVERS,
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
        seed=5000032,
    ),
    Mutant(
        "an adopted watch that its driver could not register is not given back",
        "adopt.c",
        "\tif (!err)\t\t/* none is on the list any more, so nobody reads them */\n"
        "\t\tmtw_watch_restore_adopted();\n",
        "",
        seed=11000198,
    ),
    Mutant(
        "an event that could not be kept is forgotten",
        "domain.c",
        "\t\tWRITE_ONCE(d->rescan, true);\n\t\td->rescans++;",
        "\t\td->rescans++;",
        seed=12000073,
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
        seed=11000076,
    ),
    Mutant(
        "an event holds no reference to its watch",
        "domain.c",
        "\tmtw_watch_get(event->watch);\n",
        "",
        seed=2,
        says="heap-use-after-free",
    ),
    Mutant(
        "a domain that is dead takes events",
        "domain.c",
        "\tif (d->dead) {\n\t\tspin_unlock(&d->run.lock);\n\t\treturn false;\n\t}\n",
        "",
        seed=12000050,
    ),
    Mutant(
        "F7: the other end's watch goes to the other end's thread",
        "watch.c",
        "mtw_domid_of(mtw_watch_device(watch) ?: watch->node)",
        "mtw_domid_of(watch->node)",
        seed=6,
    ),
    Mutant(
        "a warning whose timer was early is not given",
        "run.c",
        "\tif (left)\n\t\tqueue_delayed_work(mtw_wq, &run->overdue, left);\n",
        "",
        seed=2,
        says="is not warned about",
    ),
    Mutant(
        "a callback is warned about by the work of the one before it, too",
        "run.c",
        "\tif (!run->watch || run->warned || ",
        "\tif (!run->watch || ",
        seed=11000029,
    ),
    Mutant(
        "the last callback is not ordered before who waited for it",
        "run.c",
        "smp_load_acquire(&run->seq)",
        "READ_ONCE(run->seq)",
        seed=41,
        sanitizer=Sanitizer.TSAN,
        says="data race",
        strain=(after("run.c", "\tspin_unlock(&run->lock);\n\twake_up_all(&run->idle);\n"),),
        knobs=("administrators=3", "busy_domains=1", "long_callback_1_in=2"),
    ),
    Mutant(
        "a thread is made while watches of its devices are the kernel's",
        "domain.c",
        "if (!open_ || (mtw_adopt_partial() && mtw_dom_waits(domid)))",
        "if (!open_)",
        seed=19,
    ),
    Mutant(
        "a thread is made when the module is to let go",
        "domain.c",
        "if (!open_ || (mtw_adopt",
        "if ((mtw_adopt",
        seed=6,
    ),
    Mutant(
        "a node that could not be asked about is forgotten",
        "node.c",
        "\t\tset_bit(domid, to_ask);\n\t\tasker->again = true;\n",
        "",
        seed=2,
        says="has no node and a thread",
        strain=(
            Change(
                "node.c",
                "\treturn mtw_node_exists(MTW_NODE, name);\n",
                "\treturn one_in(4) ? -ENOMEM : mtw_node_exists(MTW_NODE, name);\n",
            ),
        ),
    ),
    Mutant(
        "an event from before the module goes to a thread that is to begin after it",
        "domain.c",
        "\t\tif (d && d->ticket && !READ_ONCE(d->run.task))\n\t\t\td = NULL;",
        "\t\tif (0)\n\t\t\td = NULL;",
        seed=6,
    ),
    Mutant(
        "a thread ends while its warning is under way",
        "domain.c",
        "\tcancel_delayed_work_sync(&d->run.overdue);\n\tmtw_dom_bury",
        "\tmtw_dom_bury",
        seed=98,
        says="heap-use-after-free",
        strain=(
            Change(
                "run.c",
                "\tspin_lock(&run->lock);\n\tif (!mtw_run_is_overdue",
                "\tstretch();\n\tspin_lock(&run->lock);\n\tif (!mtw_run_is_overdue",
            ),
        ),
    ),
    Mutant(
        "a node that is there again does not keep its thread",
        "domain.c",
        "\t\t\tWRITE_ONCE(d->leaving, !open_);\n",
        "",
        seed=31,
    ),
    Mutant(
        "a watch that was adopted while it could not be registered stays ours",
        "watch.c",
        "struct mtw_watch *mw = err ? mtw_watch_find_get(watch) : NULL;",
        "struct mtw_watch *mw = NULL;",
        seed=24,
        says="heap-use-after-free",
        strain=(
            Change(
                "watch.c",
                "\tint err = mtw_stock_register(watch);\n",
                "\tint err = mtw_stock_register(watch) ?: fails_late(watch);\n",
            ),
        ),
        knobs=("slow_boot=1",),
    ),
    Mutant(
        "a watch that was adopted while it was unregistered stays ours",
        "watch.c",
        "\t\tmw = mw ?: mtw_watch_find_get(watch);\t/* it may just have been adopted */\n",
        "",
        seed=94,
        says="heap-use-after-free",
        strain=(after("watch.c", "\tif (!mw || mw->adopted) {\n"),),
    ),
    Mutant(
        "F1: what is not known yet is taken for not marked",
        "watch.c",
        "\twhole = open_ && known_;\n",
        "\twhole = open_;\n",
        seed=11,
        says="unregister returns while",
        strain=(
            LATE_TO_LOOK,
            Change(
                "watch.c",
                "\n\t/*\n\t * One pending event says it all",
                "\n\tstretch();\n\t/*\n\t * One pending event says it all",
            ),
        ),
        knobs=BUSY_DEVICES,
    ),
    Mutant(
        "F1: what xenwatch was in before the watches were ours is not waited for",
        "watch.c",
        "return !whole || (mtw_dom_is_passed(domid) && !mtw_adopt_settled());",
        "return !whole;",
        seed=4,
        says="unregister returns while",
        strain=(LATE_TO_ADOPT,),
        knobs=BUSY_DEVICES,
    ),
    Mutant(
        "F1: xenwatch is taken for settled as soon as the watches are the module's",
        "adopt.c",
        "return !smp_load_acquire(&partial) && mtw_probe_passed(since_all);",
        "return !smp_load_acquire(&partial);",
        seed=7,
        says="unregister returns while",
        strain=(
            LATE_TO_ADOPT,
            Change(
                "main.c", "\tmtw_adopt_devices();\n", "\tmtw_adopt_devices();\n\tmsleep(20000);\n"
            ),
        ),
        knobs=BUSY_DEVICES,
    ),
    Mutant(
        "the search for the highest domid goes on after the end",
        "main.c",
        "\tmtw_adopt_stop();\n",
        "",
        seed=2,
    ),
    Mutant(
        "the balloon's target is still followed after the end",
        "main.c",
        "\tmtw_balloon_stop();\n\tmtw_node_stop();\n",
        "\tmtw_node_stop();\n",
        seed=1,
    ),
    Mutant(
        "there are probes after the end",
        "main.c",
        "\tmtw_probe_stop();\n",
        "",
        seed=8,
    ),
    Mutant(
        "new watches get a shadow while the others are given back",
        "main.c",
        "\tmtw_set_state(LEAVING);\n\tmtw_watch_open(false);\n",
        "\tmtw_set_state(LEAVING);\n",
        seed=13,
    ),
    Mutant(
        "watches are given back while there are threads",
        "main.c",
        "\t\tyes = state == DRAINING && !mtw_dom_count() && mtw_probe_passed(ticket);",
        "\t\tyes = state == DRAINING && mtw_probe_passed(ticket);",
        seed=29,
    ),
    Mutant(
        "who unregisters waits for himself",
        "run.c",
        "run->domid == domid && run->task != current",
        "run->domid == domid",
        seed=1,
    ),
    Mutant(
        "an event that is pending is queued again",
        "domain.c",
        "\tif (watch->queued) {\n\t\td->merged++;\n\t\treturn;\n\t}\n",
        "",
        seed=22,
    ),
    Mutant(
        "a guest can fill xenwatch's queue",
        "watch.c",
        " && (mtw_watch_is_users(mw) || !shadow->nr_pending);",
        ";",
        seed=6,
    ),
    Mutant(
        "nobody is told that xenwatch has come far enough",
        "probe.c",
        "\tmtw_dom_kick_new();\n",
        "",
        seed=1,
    ),
    Mutant(
        "a thread that cannot be made is not tried again",
        "domain.c",
        "\t\tmtw_dom_kick(d, HZ);\n",
        "",
        seed=12000075,
    ),
    Mutant(
        "a look at all devices that failed is not done again",
        "domain.c",
        "\tWRITE_ONCE(d->rescan, true);\t/* again */\n",
        "",
        seed=60,
        says="is not as the store has it",
        strain=(
            EVENTS_ARE_LOST,
            Change(
                "rescan.c",
                '\terr = mtw_rescan_add_stored(&found, "backend", domid);\n',
                '\terr = one_in(2) ? -ENOMEM : mtw_rescan_add_stored(&found, "backend", domid);\n',
            ),
        ),
    ),
    Mutant(
        "who looks again looks at what the store has only",
        "rescan.c",
        "\t\terr = mtw_watch_each(domid, mtw_rescan_add_watched, &found);\n",
        "\t\terr = 0;\n",
        seed=12000073,
    ),
    Mutant(
        "who looks again does not remember devices without a driver",
        "rescan.c",
        "\t\terr = mtw_rescan_add_seen(&found, seen);\n",
        "\t\terr = 0;\n",
        seed=848,
        says="is not as the store has it",
        strain=(EVENTS_ARE_LOST,),
    ),
    # Not missed: it finds devices without a driver that are older than the domain's thread. One of
    # these may be left behind when its removal could not be kept: see wrong_device().
    Mutant(
        "who looks again does not look at what is above",
        "rescan.c",
        "\t\terr = err ?: mtw_rescan_add_parent(found, device->path);\n",
        "\t\t;\n",
    ),
    # Not missed: until xenwatch has come by user space is told twice, as of some events anyhow;
    # all others drop these events later.
    Mutant(
        "a watch that was given back still gets events by its shadow",
        "watch.c",
        "taken = mw->dead || mw->returned || (domid",
        "taken = mw->dead || (domid",
    ),
    Mutant(
        "an event for a domain that dies is lost",
        "domain.c",
        "mtw_dom_queue(d, watch, path));\t/* it has died meanwhile */\n\trcu_read_unlock();\n"
        "\ttrace",
        "mtw_dom_queue(d, watch, path) && 0);\n\trcu_read_unlock();\n\ttrace",
        seed=12000050,
    ),
    Mutant(
        "there is another probe after the last",
        "probe.c",
        "\tif (!stopped)\n\t\tqueue_delayed_work(mtw_wq, &soon_work, HZ);\n",
        "\tqueue_delayed_work(mtw_wq, &soon_work, HZ);\n",
        seed=50,
        says="SEGV",
        strain=(
            Change(
                "watch.c",
                "\tif (mw && mtw_watch_take_back(mw, path)) {\n",
                "\tstretch();\n\tif (mw && mtw_watch_take_back(mw, path)) {\n",
            ),
        ),
    ),
    Mutant(
        "a probe that was to come soon comes after the last",
        "probe.c",
        "\tcancel_delayed_work_sync(&soon_work);\n",
        "",
        seed=6,
    ),
    Mutant(
        "dead is not ordered before who finds it",
        "domain.c",
        "!smp_load_acquire(&d->dead)",
        "!READ_ONCE(d->dead)",
        seed=5,
        sanitizer=Sanitizer.TSAN,
        says="data race",
        strain=(
            after(
                "domain.c",
                "\tsmp_store_release(&d->dead, dead);\t/* with @queued, for the lookup */\n",
            ),
            Change(
                "main.c",
                "\tmtw_run_init(&mtw_xenwatch);\n",
                "\tmtw_run_init(&mtw_xenwatch);\n\tif (!knobs.stuck) {\n"
                "\t\tWRITE_ONCE(mtw_warn_secs, 0);\n\t\tWRITE_ONCE(mtw_idle_secs, 0);\n"
                "\t\tWRITE_ONCE(mtw_mode, MTW_AUTO);\n\t}\n",
            ),
        ),
    ),
    Mutant(
        "an adopted watch's callback holds no reference to it",
        "watch.c",
        "\tif (mw)\n\t\tmtw_watch_get(mw);\n\tcallback",
        "\tcallback",
        seed=1,
    ),
    Mutant(
        "an adopted watch that its driver takes back keeps the module's functions",
        "watch.c",
        "\tspin_lock(&mtw_table_lock);\n\tmtw_watch_restore(mw);\n\tspin_unlock(&mtw_table_lock);\n\tmtw_watch_end",
        "\tmtw_watch_end",
        seed=3,
    ),
    Mutant(
        "an adopted watch that its driver takes back leaves its events queued",
        "watch.c",
        "\tmtw_dom_flush(mw);\n\tmtw_watch_put(mw);\n}\n\n/* While",
        "\tmtw_watch_put(mw);\n}\n\n/* While",
        seed=22,
    ),
    Mutant(
        "marks: all domids stay marked when the highest is known",
        "domain.c",
        "\tWRITE_ONCE(all_passed, false);\n",
        "",
        seed=1,
    ),
    # An event may come by the token of an older watch that xenstored was not told the end of.
    Mutant(
        "a watch that could not be registered leaves its events queued",
        "watch.c",
        "\tif (err) {\n\t\tmtw_dom_flush(mw);\n\t\tmtw_watch_put(mw);\n\t}\n",
        "\tif (err)\n\t\tmtw_watch_put(mw);\n",
        seed=1,
        says="heap-use-after-free",
        strain=(
            Change(
                "watch.c",
                "\terr = mtw_stock_register(&mw->shadow);\n",
                "\terr = !mtw_watch_is_users(mw) && one_in(4) ? -ENOMEM :\n"
                "\t      mtw_stock_register(&mw->shadow);\n"
                "\tif (err && !mtw_watch_is_users(mw))\n\t\tmtw_watch_take(mw, mw->node);\n",
            ),
        ),
    ),
)


def mutated(sources: Path, mutant: Mutant, target: Path) -> Path:
    """Copy the module, without the guard. Raises ValueError unless each text is there once."""
    guard = Change(mutant.file, mutant.old, mutant.new)
    return _changed(sources, (guard, *mutant.strain), target)


def strained(sources: Path, mutant: Mutant, target: Path) -> Path:
    """The same with the guard. Raises as mutated() does."""
    return _changed(sources, mutant.strain, target)


def _changed(sources: Path, changes: Iterable[Change], target: Path) -> Path:
    shutil.copytree(sources, target)
    for change in changes:
        change.apply(target)
    return target
