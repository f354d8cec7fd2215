# SPDX-License-Identifier: LGPL-2.1-or-later
"""One pass over the nodes: observe the host, name the domains, plan, apply.

All that changes nodes comes here: `xlmt repair`, `xlmt reconcile`, the supervisor and the hooks.
Observing takes one look (observe.py), the plan judges that look alone (plan.py), and `carry_out`
looks again at each action's reason before it changes anything (apply.py).

What is only told, and not changed, is looked at again a second later: a node may be missing, or
left over, for a moment while its guest comes or goes.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xlmt.libxl import Context
from xlmt.nodes.apply import apply
from xlmt.nodes.model import Listing, Outcome, Plan, Result, Row, Snapshot
from xlmt.nodes.observe import observe, with_contents, with_names
from xlmt.nodes.plan import (
    is_settled,
    listing,
    narrowed,
    out_of_order,
    plan,
    settled,
    to_be_named,
)
from xlmt.xenstore import Store

#: From one look at a node that seems to be missing, or left over, to the next.
_SETTLED_S = 1.0


class Pass(NamedTuple):
    """What was seen, and what is to be done about it."""

    store: Store
    ctx: Context
    seen: Snapshot
    plan: Plan

    def untouched(self, wanted: Sequence[str]) -> list[Row]:
        """Return the rows of wanted domains that the plan has no action for."""
        acted_on = {action.domid for action in self.plan.actions}
        rows = listing(self.seen, wanted).rows
        return [row for row in rows if row.domid not in acted_on]

    def lasting(self) -> "Pass":
        """Return the pass with what of its plan is still to be done a second later, if anything is.

        Raises as `apply` does.
        """
        if not self.plan.actions:
            return self
        time.sleep(_SETTLED_S)
        seen = apply(self.store, self.ctx, self.plan.actions, dry_run=True)
        due = [outcome.action for outcome in seen if outcome.result is not Result.UNNEEDED]
        return self._replace(plan=narrowed(self.plan, due, self.seen))

    def carry_out(self, *, dry_run: bool = False) -> Iterator[Outcome]:
        """Do what the plan allows; yield what became of each action. Raises as `apply` does.

        `dry_run` changes nothing, and takes in what the plan refuses without force.
        """
        actions = self.plan.actions if dry_run else self.plan.allowed
        return apply(self.store, self.ctx, actions, dry_run=dry_run)


def begin(  # noqa: PLR0913 - two to see by, four to choose by
    store: Store,
    ctx: Context,
    wanted: Sequence[str] | None = None,
    *,
    contents: bool = False,
    force: bool = False,
    prune_foreign: bool = False,
) -> Pass:
    """Look at the host, and plan for all its domids or for those of `wanted` domains.

    With `contents` also at what the nodes hold, for which there are repairs. Raises as `plan` and
    `observe` do.
    """
    seen = observe(store, ctx)
    seen = with_names(store, seen, to_be_named(seen, wanted) if wanted else out_of_order(seen))
    if contents:
        rows = listing(seen, wanted).rows
        seen = with_contents(store, seen, [row.domid for row in rows if row.node])
    what = plan(seen, wanted, force=force, prune_foreign=prune_foreign)
    return Pass(store, ctx, seen, what)


def listed(store: Store, ctx: Context, wanted: Sequence[str] | None = None) -> Listing:
    """Look at the host, the kernel's threads included; return the rows. Raises as `listing`."""
    seen = observe(store, ctx, threads=True)
    seen = with_names(store, seen, to_be_named(seen, wanted))
    told = listing(seen, wanted)
    if is_settled(told):
        return told
    time.sleep(_SETTLED_S)
    later = observe(store, ctx)
    later = later._replace(threads=seen.threads, guarded=seen.guarded, names=seen.names)
    return settled(told, listing(later))
