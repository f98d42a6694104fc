#!/usr/bin/env python3
"""The protocols between GPU and CPU, explored: every order of steps in small worlds.

    tests/cuda/protocols.py [--larger]

HANDOFF  The device's stream and the CPU lane of a pass, as in backend_cuda_handoff.c: words
         `there` and `back`, pinned buffers, a pass that is recorded or enqueued layer by layer,
         a CPU lane that fails in the middle, a device that is lost at any moment.
SLOTS    The table of experts, as in backend_cuda_slots.c: newcomers that set out and land,
         through a half of the carrier, while passes run; compute stream, copy stream, events.

CROSSING A step of an expert store of which some experts are the CPU's and others cross, as in
         backend_cuda_cross.c, with slots that reads want back, a newcomer to VRAM that is read
         meanwhile, and memory that is given back.

A world is a function that gives the steps of a state.  Wrong are: an assertion that fails in a
step; a state from which no end can be reached without an accident (all who wait, wait for ever).  Then each world
is broken on purpose, in every way of its list of mistakes, and must be found wrong.

Steps are atomic and seen by all in one order: whether a store is seen early or late is not
modelled (the code has release and acquire, the kernel a fence).
"""
import itertools
import sys
from collections import namedtuple


class Wrong(Exception):
    """What must not happen, in words."""


def need(condition, text):
    if not condition:
        raise Wrong(text)


def explore(world):
    """Visits every state; returns (states, ends), or raises Wrong."""
    start = world.start()
    before, todo, ends = {start: []}, [start], []
    while todo:
        state = todo.pop()
        if world.is_end(state):
            ends.append(state)
        nexts, accidents = world.steps(state), world.accidents(state)
        for n in nexts + accidents:
            if n not in before:
                before[n] = []
                todo.append(n)
        for n in nexts:
            before[n].append(state)
    # Backwards from the ends: what is not met cannot end.
    met, todo = set(ends), list(ends)
    while todo:
        for state in before[todo.pop()]:
            if state not in met:
                met.add(state)
                todo.append(state)
    for state in before:
        need(state in met, f"no end can be reached from {state}")
    return len(before), len(ends)


# ---- handoff ---------------------------------------------------------------------------------

ALL = 99  # more than any handoff's number: what releases every wait
H = namedtuple("H", "number queue busy there back buffers total lost lane layer result")


class Handoff:
    """number: of the pass.  queue: the stream.  busy: what the device reads or writes now.
    buffers: (pass, layer) whose ids, weights and x lie there.  total: whose sum does.  lane: what
    the CPU does, `layer` for which.  result: of passes so far."""

    MISTAKES = [
        "the device does not wait for the sum", "words are not reset", "only `there` is reset",
        "`back` comes before the sum", "`there` comes before the buffers",
        "a pass that fails releases nobody", "a pass that fails does not wait for the stream",
        "nobody asks whether the device lives", "all layers have one number",
        "the last layer is not answered", "a layer without handoff is answered",
        "the CPU answers what it has not seen", "the sum goes back without a word",
    ]

    def __init__(self, layers, recorded, n_pass, may_fail, mistake=None):
        self.layers, self.recorded, self.n_pass = layers, recorded, n_pass
        self.may_fail, self.mistake = may_fail, mistake
        self.hand = [i for i, hand in enumerate(layers) if hand]

    def is_(self, mistake):
        return self.mistake == mistake

    def value(self, layer):
        """The number of a layer's handoff."""
        return 1 if self.is_("all layers have one number") else self.hand.index(layer) + 1

    def ops(self, number, layer):
        """What a layer enqueues."""
        if layer not in self.hand:
            return (("hits", number, layer),)
        send = (("write", number, layer), ("there", number, layer))
        if self.is_("`there` comes before the buffers"):
            send = send[::-1]
        wait = () if self.is_("the device does not wait for the sum") else (("wait", number, layer),)
        return (*send, ("hits", number, layer), *wait, ("add", number, layer))

    def start(self):
        return H(0, (), None, 0, 0, None, None, False, "begin", 0, ())

    def is_end(self, s):
        return s.lane == "end"

    def steps(self, s):
        return self.device(s) + self.cpu(s)

    def accidents(self, s):
        out = []
        if self.may_fail and not s.lost and s.lane != "end":
            out.append(s._replace(lost=True, queue=(), busy=None))
        if self.may_fail and s.lane == "compute":
            out.append(s._replace(lane="fail"))  # an expert cannot be read from the file
        return out

    # the device

    def device(self, s):
        if s.lost or not s.queue:
            return []
        (what, number, layer), rest = s.queue[0], s.queue[1:]
        if s.busy:
            return [s._replace(busy=None, queue=rest)]
        if what == "write":
            need(s.lane not in ("compute", "told"), f"ids of layer {layer} are written while the CPU reads others")
            return [s._replace(busy="buffers", buffers=(number, layer))]
        if what == "there":
            return [s._replace(there=self.value(layer), queue=rest)]
        if what == "wait":
            return [s._replace(queue=rest)] if s.back >= self.value(layer) else []
        if what == "add":
            need(s.total == (number, layer) or s.back == ALL, f"layer {layer} of pass {number} adds {s.total}")
            return [s._replace(busy="total")]
        return [s._replace(queue=rest)]

    # the CPU lane

    def cpu(self, s):
        step = getattr(self, "lane_" + s.lane, None)
        return step(s) if step else []

    def lane_begin(self, s):
        if s.number == self.n_pass:
            return [s._replace(lane="end")]
        need(s.lost or not s.queue, f"pass {s.number} resets the words while the stream runs")
        there = s.there if self.is_("words are not reset") else 0
        back = s.back if self.mistake in ("words are not reset", "only `there` is reset") else 0
        queue = ()
        if self.recorded and not s.lost:
            queue = tuple(op for i in range(len(self.layers)) for op in self.ops(s.number, i))
        return [s._replace(there=there, back=back, queue=queue, lane="layer", layer=0)]

    def lane_layer(self, s):
        """Enqueues a layer, or comes to the next that wants an answer."""
        if s.layer == len(self.layers):
            return [s._replace(lane="finish")]
        if not self.recorded and not s.lost:
            s = s._replace(queue=s.queue + self.ops(s.number, s.layer))
        asked = s.layer in self.hand
        if self.is_("a layer without handoff is answered"):
            asked = True
        if self.is_("the last layer is not answered") and s.layer == self.hand[-1]:
            asked = False
        return [s._replace(lane="look") if asked else s._replace(layer=s.layer + 1)]

    def lane_look(self, s):
        number = self.value(s.layer) if s.layer in self.hand else ALL
        if s.there >= number or self.is_("the CPU answers what it has not seen"):
            return [s._replace(lane="read")]
        # An idle device will not send any more: told apart from one that has sent just now.
        gone = s.lost or (not s.queue and s.there < number)
        if gone and not self.is_("nobody asks whether the device lives"):
            need(s.lost, f"the CPU waits for layer {s.layer}, which nobody sends")
            return [s._replace(lane="fail")]
        return []

    def lane_read(self, s):
        need(s.lost or s.buffers == (s.number, s.layer), f"the CPU reads {s.buffers} for layer {s.layer} of pass {s.number}")
        need(s.lost or s.busy != "buffers", "the CPU reads what is being written")
        return [s._replace(lane="compute")]

    def lane_compute(self, s):
        if self.is_("`back` comes before the sum"):
            return [s._replace(lane="told", back=self.value(s.layer))]
        need(s.busy != "total", "the CPU writes a sum while the device adds the one before")
        return [s._replace(lane="told", total=(s.number, s.layer))]

    def lane_told(self, s):
        if self.is_("`back` comes before the sum"):
            return [s._replace(lane="layer", layer=s.layer + 1, total=(s.number, s.layer))]
        back = s.back if self.is_("the sum goes back without a word") else self.value(s.layer)
        return [s._replace(lane="layer", layer=s.layer + 1, back=back)]

    def lane_fail(self, s):
        back = s.back if self.is_("a pass that fails releases nobody") else ALL
        return [s._replace(lane="give_up", back=back)]

    def lane_give_up(self, s):
        if not s.lost and s.queue and not self.is_("a pass that fails does not wait for the stream"):
            return []
        return [s._replace(lane="begin", number=s.number + 1, result=s.result + ("failed",))]

    def lane_finish(self, s):
        """The wait at the end of a pass, which a lost device ends with its failure."""
        if s.lost:
            return [s._replace(lane="begin", number=s.number + 1, result=s.result + ("failed",))]
        if s.queue:
            return []
        return [s._replace(lane="begin", number=s.number + 1, result=s.result + ("done",))]


# ---- slots -------------------------------------------------------------------------------------

S = namedtuple("S", "n_pass compute copy back busy table slot half made here in_slot coming bound seat event ahead "
                    "ram lives by_cpu")
Seat = namedtuple("Seat", "expert slot loser place landed")  # place: in RAM, which the loser gets; None: it has none


class Slots:
    """table, slot, half, made: the device's: slot of each expert or None; whose matrices lie in a slot, in
    a half of the carrier or where losers are saved, "mixed" while they are written.  here, in_slot,
    coming, bound, seat: the host's.  event: what each half's events were recorded and done.
    compute, copy, back: the streams.  ram: whose bytes lie in a place of the expert store; lives: who the
    store says lives there.  by_cpu: what the CPU computes while the pass runs."""

    MISTAKES = [
        "the loser's entry stays", "the loser stays in the mirror", "the mirror changes when a newcomer sets out",
        "the entry is published a pass late", "the slot is filled in the copy stream",
        "nobody asks whether the copy is done", "the copy does not wait for the half",
        "entries change in the copy stream", "two may wish for one slot", "one may come twice",
        "the newcomer is not in the mirror", "the slot is filled before the loser is saved",
        "the loser crosses before it is saved", "the newcomer is let go when it has landed",
        "a half is filled while losers leave it",
        "the newcomer may lose its slot before its place is taken", "nobody asks whether the loser is back",
        "a loser that was read meanwhile lives twice", "the newcomer stays in the store's book",
        "losers stay where prompts make experts",
    ]

    def __init__(self, n_expert, n_slot, n_half, n_place, n_pass, n_routed, runs_ahead, mistake=None):
        self.n_expert, self.n_slot, self.n_half, self.n_place = n_expert, n_slot, n_half, n_place
        self.n_pass, self.n_routed, self.runs_ahead = n_pass, n_routed, runs_ahead
        self.mistake = mistake

    def is_(self, mistake):
        return self.mistake == mistake

    def start(self):
        table = tuple(e if e < self.n_slot else None for e in range(self.n_expert))
        ram = tuple(range(self.n_slot, self.n_slot + self.n_place))
        no, none = (False,) * self.n_expert, (None,) * self.n_half
        return S(0, (), (), (), None, table, tuple(range(self.n_slot)), none, None,
                 tuple(t is not None for t in table), tuple(range(self.n_slot)), no, no,
                 none, ((0,) * 6,) * self.n_half, 0, ram, ram, ())

    def is_end(self, s):
        if s.n_pass < self.n_pass or s.compute or s.copy or s.back:
            return False
        for slot, expert in enumerate(s.in_slot):
            need(s.slot[slot] == expert and s.table[expert] == slot and s.here[expert],
                 f"at the end slot {slot} is said to hold {expert}: {s}")
        return True

    def steps(self, s):
        return self.run_compute(s) + self.run_copy(s) + self.run_back(s) + self.begin_pass(s)

    def accidents(self, s):
        return []

    # events of a half: (recorded, done) of used, arrived and returned, counted

    def note(self, s, half, which):
        counts = list(s.event[half])
        counts[which] += 1
        return s._replace(event=put(s.event, half, tuple(counts)))

    # the device

    def run_compute(self, s):
        if not s.compute:
            return []
        op, rest = s.compute[0], s.compute[1:]
        if op[0] == "edit":
            return [s._replace(table=put(s.table, op[1], op[2]), compute=rest)]
        if op[0] == "used":
            return [self.note(s._replace(compute=rest), op[1], 1)]
        if op[0] == "fill":
            return [self.fill(s, op, compute=rest)]
        if op[0] == "save":
            return [s._replace(made=s.slot[op[1]], compute=rest)]
        if op[0] == "park":
            return [s._replace(half=put(s.half, op[1], s.made), compute=rest)]
        if op[0] == "prompt":
            return [s._replace(made="prompt", compute=rest)]
        return [self.run_pass(s, op, rest)]

    def fill(self, s, op, **rest):
        """A kernel makes a slot from a half: two steps."""
        _, half, slot, expert = op
        need(s.half[half] == expert, f"slot {slot} is filled with {s.half[half]}, not {expert}")
        if s.busy != op:
            return s._replace(busy=op, slot=put(s.slot, slot, "mixed"))
        return s._replace(busy=None, slot=put(s.slot, slot, expert), **rest)

    def run_pass(self, s, op, rest):
        """The kernels of a pass read the table; what the CPU computes was decided by the mirror."""
        _, routed, by_cpu = op
        for e in routed:
            at = s.table[e]
            if at is not None:
                need(s.slot[at] == e, f"expert {e} is computed from {s.slot[at]}")
            need((at is not None) != (e in by_cpu),
                 f"expert {e} is computed by {'both' if at is not None else 'nobody'}")
        return s._replace(compute=rest, ahead=s.ahead - 1)

    def run_copy(self, s):
        if not s.copy:
            return []
        op, rest = s.copy[0], s.copy[1:]
        if op[0] == "after":
            return [s._replace(copy=rest)] if s.event[op[1]][1] >= op[2] else []
        if op[0] == "edit":
            return [s._replace(table=put(s.table, op[1], op[2]), copy=rest)]
        if op[0] == "arrived":
            return [self.note(s._replace(copy=rest), op[1], 3)]
        if op[0] == "fill":
            return [self.fill(s, op, copy=rest)]
        _, half, expert, place = op
        need(place is None or s.ram[place] == expert, f"expert {expert} is read from a place that holds {place}")
        if s.half[half] != "mixed":
            return [s._replace(half=put(s.half, half, "mixed"))]
        return [s._replace(half=put(s.half, half, expert), copy=rest)]

    def run_back(self, s):
        if not s.back:
            return []
        op, rest = s.back[0], s.back[1:]
        if op[0] == "after":
            return [s._replace(back=rest)] if s.event[op[1]][1] >= op[2] else []
        if op[0] == "returned":
            return [self.note(s._replace(back=rest), op[1], 5)]
        _, half, place, loser = op
        source = s.made if self.is_("losers stay where prompts make experts") else s.half[half]
        if s.ram[place] != "mixed":
            return [s._replace(ram=put(s.ram, place, "mixed"))]
        return [s._replace(ram=put(s.ram, place, source if source == loser else "wrong"), back=rest)]

    # the host, between passes

    def check_cpu(self, s):
        """What the CPU computes lies where the store says, from the beginning of a pass to its end."""
        for e in s.by_cpu:
            for place, who in enumerate(s.lives):
                need(who != e or s.ram[place] == e, f"the CPU computes {e} from {s.ram[place]}")

    def begin_pass(self, s):
        if s.n_pass == self.n_pass or s.ahead > self.runs_ahead:
            return []
        self.check_cpu(s)
        out, s = [], self.halves(s._replace(by_cpu=()))
        need(len({e for e in s.lives if e is not None}) == sum(e is not None for e in s.lives), "one lives twice")
        for wishes in self.wishes(s):
            now = s
            for half, wish in zip(self.free_halves(s), wishes):
                now = self.depart(now, half, *wish)
            for routed in itertools.combinations(range(self.n_expert), self.n_routed):
                by_cpu = tuple(e for e in routed if not now.here[e])
                go = now._replace(n_pass=now.n_pass + 1, ahead=now.ahead + 1, by_cpu=by_cpu,
                                  compute=now.compute + (("pass", routed, by_cpu),))
                self.check_cpu(go)
                out += [go] + self.displaced(go)
        return out

    def displaced(self, s):
        """One that was read from the file may stay, in place of any that is not held or computed."""
        held = {seat.place for seat in s.seat if seat}
        if self.is_("the newcomer is let go when it has landed"):
            held = {seat.place for seat in s.seat if seat and not seat.landed}
        new = [e for e in s.by_cpu if e not in s.lives]
        return [s._replace(ram=put(s.ram, place, e), lives=put(s.lives, place, e))
                for e in new for place, who in enumerate(s.lives) if place not in held and who not in s.by_cpu]

    def free_halves(self, s):
        leaves = self.is_("a half is filled while losers leave it")
        return [h for h, seat in enumerate(s.seat) if seat is None or (leaves and seat.landed)]

    def edit(self, s, expert, slot):
        if self.is_("entries change in the copy stream"):
            return s._replace(copy=s.copy + (("edit", expert, slot),))
        return s._replace(compute=s.compute + (("edit", expert, slot),))

    def halves(self, s):
        for half, seat in enumerate(s.seat):
            if seat is None:
                continue
            _, _, arrivals, arrived, returns, returned = s.event[half]
            if seat.landed:
                if returned >= returns or self.is_("nobody asks whether the loser is back"):
                    s = self.finish(s, half)
            elif arrived >= arrivals or self.is_("nobody asks whether the copy is done"):
                s = self.land(s, half)
        return s

    def land(self, s, half):
        expert, slot, loser, place, _ = s.seat[half]
        save, fill, park = ("save", slot), ("fill", half, slot, expert), ("park", half)
        if place is None:
            ops = (fill,)
        elif self.is_("the slot is filled before the loser is saved"):
            ops = (fill, save, park)
        else:
            ops = (save, fill, park)
        if self.is_("the slot is filled in the copy stream"):
            s = s._replace(copy=s.copy + (fill,))
            ops = tuple(op for op in ops if op != fill)
        s = self.note(s._replace(compute=s.compute + ops + (("used", half),)), half, 0)
        if not self.is_("the entry is published a pass late"):
            if not self.is_("the loser's entry stays"):
                s = self.edit(s, loser, None)
            s = self.edit(s, expert, slot)
        if not self.is_("the loser stays in the mirror"):
            s = s._replace(here=put(s.here, loser, False))
        if not self.is_("the newcomer is not in the mirror"):
            s = s._replace(here=put(s.here, expert, True))
        s = s._replace(coming=put(s.coming, expert, False), bound=put(s.bound, loser, False),
                       in_slot=put(s.in_slot, slot, expert))
        if place is None:
            return s._replace(seat=put(s.seat, half, None))
        if not self.is_("the newcomer may lose its slot before its place is taken"):
            s = s._replace(bound=put(s.bound, expert, True))
        if self.is_("losers stay where prompts make experts"):
            s = s._replace(compute=s.compute + (("prompt",),))
        s = self.send_back(s, half)
        return s._replace(seat=put(s.seat, half, s.seat[half]._replace(landed=True)))

    def send_back(self, s, half):
        _, _, loser, place, _ = s.seat[half]
        wait = () if self.is_("the loser crosses before it is saved") else (("after", half, s.event[half][0]),)
        return self.note(s._replace(back=s.back + wait + (("home", half, place, loser), ("returned", half))), half, 4)

    def finish(self, s, half):
        expert, _, loser, place, _ = s.seat[half]
        there = loser not in s.lives or self.is_("a loser that was read meanwhile lives twice")
        lives = s.lives
        if not self.is_("the newcomer stays in the store's book"):
            lives = put(lives, place, loser if there else None)
        elif there and None in lives:
            lives = put(lives, lives.index(None), loser)
        return s._replace(seat=put(s.seat, half, None), bound=put(s.bound, expert, False), lives=lives)

    def wishes(self, s):
        """Any policy: every choice of newcomers and slots that it could make."""
        free = len(self.free_halves(s))
        twice = self.is_("one may come twice")
        new = [e for e in range(self.n_expert) if not s.here[e] and (twice or not s.coming[e])]
        shared = self.is_("two may wish for one slot")
        old = [i for i in range(self.n_slot) if not s.bound[s.in_slot[i]] or shared]
        pairs = list(itertools.product(new, old))
        out = [()]
        for n in range(1, free + 1):
            for some in itertools.permutations(pairs, n):
                if len({e for e, _ in some}) == n and (shared or len({i for _, i in some}) == n):
                    out.append(some)
        return out

    def depart(self, s, half, expert, slot):
        loser = s.in_slot[slot]
        place = s.lives.index(expert) if expert in s.lives else None
        if any(seat and seat.place == place for seat in s.seat):
            place = None  # held already: by hand
        s = s._replace(bound=put(s.bound, loser, True), coming=put(s.coming, expert, True),
                       seat=put(s.seat, half, Seat(expert, slot, loser, place, False)))
        if self.is_("the mirror changes when a newcomer sets out"):
            s = s._replace(here=put(s.here, expert, True))
        wait = () if self.is_("the copy does not wait for the half") else (("after", half, s.event[half][0]),)
        return self.note(s._replace(copy=s.copy + wait + (("copy", half, expert, place), ("arrived", half))), half, 2)


# ---- crossing ----------------------------------------------------------------------------------

X = namedtuple("X", "layer lane wave slot asked named waiting ready air queue busy flown computed "
                    "home held read_failed lost result")
PROMOTED = ("promoted", 0)  # who sits at home, and crosses to VRAM for good


class Crossing:
    """kinds: of a layer's experts, in the order of reads; expert i of layer l is (l, i).  slot:
    (expert, "loading", "loaded", "named" or "free"), or None; `home` is the number of the one
    where PROMOTED is, `held` whether it is.  asked: reads begun.  waiting, ready: named ones that
    cross, and the CPU's.  air: flights as (number, experts).  queue, busy: the copy stream's.
    flown: flights whose event has happened.  computed: experts, by whom it does not matter."""

    MISTAKES = [
        "a slot is given back when its copy sets out", "the step ends with copies in the air",
        "a read is waited for with copies in the air", "only full chunks set out",
        "the step ends when the CPU has had its own",
        "what crosses is the CPU's too", "a failed step does not wait for its copies",
        "the promoted one is not held", "the promoted one is held for ever",
        "a block is unpinned while it is read", "nobody asks whether the device lives",
    ]

    def __init__(self, kinds, n_slot, chunk, n_air, may_fail, mistake=None):
        self.kinds, self.n_slot, self.chunk, self.n_air = kinds, n_slot, chunk, n_air
        self.may_fail, self.mistake, self.n_layer = may_fail, mistake, 2

    def is_(self, mistake):
        return self.mistake == mistake

    def start(self):
        slot = (None,) * self.n_slot + ((PROMOTED, "home"),)
        held = not self.is_("the promoted one is not held")
        queue = (("copy", PROMOTED, self.n_slot), ("event", -1))
        return X(0, "begin", (), slot, 0, 0, (), (), (), queue, None, frozenset(), (), self.n_slot,
                 held, False, False, None)

    def is_end(self, s):
        return s.lane == "end" and (s.lost or not s.queue)

    def steps(self, s):
        return self.reader(s) + self.copies(s) + getattr(self, "lane_" + s.lane)(s)

    def accidents(self, s):
        out = []
        if self.may_fail and not s.lost:
            out.append(s._replace(lost=True, queue=(), busy=None))
        for i, held in enumerate(s.slot):
            own = held and held[0][0] == s.layer and not s.read_failed
            if self.may_fail and own and held[1] == "loading":
                out.append(s._replace(slot=put(s.slot, i, None), read_failed=True))
        return out

    # the disk and the copy stream

    def reader(self, s):
        return [s._replace(slot=put(s.slot, i, (x[0], "loaded")))
                for i, x in enumerate(s.slot) if x and x[1] == "loading"]

    def copies(self, s):
        if not s.queue:
            return []
        op, rest = s.queue[0], s.queue[1:]
        if op[0] == "event":
            return [s._replace(queue=rest, flown=s.flown | {op[1]})]
        _, expert, at = op
        need(s.slot[at] and s.slot[at][0] == expert and s.slot[at][1] != "loading",
             f"what crosses is read from a slot of another: {expert}, {s.slot[at]}")
        if not s.busy:
            return [s._replace(busy=op)]
        if expert != PROMOTED:
            s = s._replace(computed=s.computed + (expert,))
        return [s._replace(busy=None, queue=rest)]

    # the store

    def fetch(self, s):
        """Reads of this step, as far as slots are free."""
        for at in range(self.n_slot + 1):
            if s.asked == len(self.kinds) or s.lane == "end":
                break
            if at != s.home and (s.slot[at] is None or s.slot[at][1] == "free"):
                s = s._replace(slot=put(s.slot, at, ((s.layer, s.asked), "loading")), asked=s.asked + 1)
        return s

    def where(self, s, expert):
        at = [i for i, x in enumerate(s.slot) if x and x[0] == expert]
        need(at, f"an expert that is used has no slot: {expert}")
        return at[0]

    def free(self, s, expert):
        at = self.where(s, expert)
        return self.fetch(s._replace(slot=put(s.slot, at, (expert, "free"))))

    def displace(self, s, expert):
        """It takes the home of PROMOTED, whose slot then is one like others."""
        at = self.where(s, expert)
        slot = put(put(s.slot, at, (expert, "home")), s.home, (s.slot[s.home][0], "free"))
        return self.fetch(s._replace(slot=slot, home=at))

    # the calling thread

    def lane_begin(self, s):
        if s.layer == self.n_layer:
            return [s._replace(lane="between")]
        return [self.fetch(s._replace(asked=0, named=0, waiting=(), ready=(), computed=(), lane="next"))]

    def gone(self, s):
        """The first flight is over: its experts may go."""
        (_, experts), air = s.air[0], s.air[1:]
        s = s._replace(air=air)
        for e in experts:
            if not self.is_("a slot is given back when its copy sets out"):
                s = self.free(s, e)
        return s

    def set_out(self, s):
        while s.waiting and len(s.air) < self.n_air:
            full = len(s.waiting) >= self.chunk
            if not full and (s.air or self.is_("only full chunks set out")):
                break
            experts, number = s.waiting[:self.chunk], (s.layer, s.waiting[0][1])
            queue = s.queue
            if not s.lost:
                queue += tuple(("copy", e, self.where(s, e)) for e in experts) + (("event", number),)
            s = s._replace(waiting=s.waiting[self.chunk:], air=s.air + ((number, experts),), queue=queue)
            if self.is_("a slot is given back when its copy sets out"):
                for e in experts:
                    s = self.free(s, e)
        return s

    def lane_next(self, s):
        if s.lost and not self.is_("nobody asks whether the device lives"):
            return [s._replace(lane="over", result="failed")]
        while s.air and s.air[0][0] in s.flown:
            s = self.gone(s)
        if s.read_failed:
            return [s._replace(lane="over", result="failed")]
        for at, x in enumerate(s.slot):
            if x and x[1] == "loaded" and x[0][0] != s.layer:  # of a step that failed
                s = self.fetch(s._replace(slot=put(s.slot, at, (x[0], "free"))))
            elif x and x[1] == "loaded":
                s = s._replace(slot=put(s.slot, at, (x[0], "named")), named=s.named + 1)
                links = self.kinds[x[0][1]] == "link"
                if links:
                    s = s._replace(waiting=s.waiting + (x[0],))
                if not links or self.is_("what crosses is the CPU's too"):
                    s = s._replace(ready=s.ready + (x[0],))
        s = self.set_out(s)
        if s.ready:
            return [s._replace(ready=s.ready[1:], wave=s.ready[:1], lane="compute")]
        n_cpu = self.kinds.count("cpu")
        if self.is_("the step ends when the CPU has had its own") and len([e for e in s.computed if self.kinds[e[1]] == "cpu"]) == n_cpu:
            return [s._replace(lane="over")]
        if s.air and not self.is_("a read is waited for with copies in the air"):
            return [s._replace(lane="flight")]
        if s.named == len(self.kinds):
            return [s._replace(lane="flight" if s.air else "over")]
        need(any(x and x[1] == "loading" for x in s.slot), f"a read is waited for that nobody makes: {s}")
        return [s._replace(lane="disk")]

    def lane_flight(self, s):
        asks = not self.is_("nobody asks whether the device lives")
        return [s._replace(lane="next")] if s.air[0][0] in s.flown or (s.lost and asks) else []

    def lane_disk(self, s):
        came = s.read_failed or any(x and x[1] == "loaded" for x in s.slot)
        return [s._replace(lane="next")] if came else []

    def lane_compute(self, s):
        """Two steps, as reads and copies go on meanwhile."""
        (expert,) = s.wave
        need(any(x and x[0] == expert and x[1] == "named" for x in s.slot), f"the CPU computes what has gone: {expert}")
        return [s._replace(lane="computed")]

    def lane_computed(self, s):
        (expert,) = s.wave
        need(any(x and x[0] == expert and x[1] == "named" for x in s.slot), f"the CPU computes what goes meanwhile: {expert}")
        s = s._replace(wave=(), computed=s.computed + (expert,), lane="next")
        out = [self.free(s, expert)]
        if not s.held and s.slot[s.home][0] == PROMOTED:
            out.append(self.displace(s, expert))
        return out

    def lane_over(self, s):
        """The end of the step."""
        waits = not self.is_("the step ends with copies in the air")
        if s.result == "failed" and self.is_("a failed step does not wait for its copies"):
            waits = False
        if s.air and waits:
            return [self.gone(s)] if s.air[0][0] in s.flown or s.lost else []
        if s.result != "failed":
            done = sorted(s.computed) if waits else sorted({*s.computed, *(e for _, es in s.air for e in es)})
            need(done == [(s.layer, i) for i in range(len(self.kinds))], f"computed are {done}")
        slot = tuple((x[0], "free") if x and x[1] in ("named", "loaded") else x for x in s.slot)
        # A pass that failed is followed by another, whose first reads want the slots.
        return [s._replace(slot=slot, air=(), layer=s.layer + 1, result=None, read_failed=False, lane="begin")]

    def lane_between(self, s):
        """Before the next pass: what has come lands, and memory may be given back."""
        out = []
        if -1 in s.flown or s.lost:
            released = s._replace(held=s.held and self.is_("the promoted one is held for ever"))
            out.append(released._replace(lane="give"))
        elif not s.held:
            out.append(s._replace(lane="give"))
        # A slot beside that of PROMOTED, in the same block, is wanted back.
        if self.is_("a block is unpinned while it is read") or not s.queue:
            need(not s.busy, "memory that is read is unpinned")
            out.append(s._replace(lane="between") if s.held else s._replace(lane="give"))
        return out

    def lane_give(self, s):
        need(not s.held, "what has landed is held for ever")
        return [s._replace(slot=put(s.slot, s.home, None), lane="end")]

    def lane_end(self, s):
        return []


def put(t, i, value):
    return t[:i] + (value,) + t[i + 1:]


# ---- all of it -----------------------------------------------------------------------------------

def handoff_worlds(larger):
    shapes = [(True,), (True, True), (True, False, True), (False, True, True)]
    for layers in shapes + ([(True, True, False, True, True)] if larger else []):
        for recorded, may_fail in itertools.product((False, True), repeat=2):
            yield Handoff, (layers, recorded, 4 if larger else 3, may_fail)


def slot_worlds(larger):
    #        experts, slots, halves, places in RAM, passes, routed, runs ahead
    sizes = [(2, 1, 1, 1, 5, 1, 0), (3, 1, 1, 2, 4, 2, 1), (3, 2, 1, 1, 4, 1, 0), (3, 2, 2, 1, 3, 2, 0),
             (4, 2, 2, 1, 3, 1, 1), (3, 1, 1, 0, 4, 2, 1)]
    for size in sizes + ([(4, 2, 1, 2, 5, 2, 1), (4, 2, 2, 2, 4, 2, 1)] if larger else []):
        yield Slots, size


def crossing_worlds(larger):
    #        experts, slots, chunk, flights
    sizes = [("link cpu", 1, 1, 1), ("link link cpu", 2, 2, 1), ("cpu link link", 2, 1, 2), ("link link", 1, 2, 1),
             ("link cpu link", 2, 2, 2)]
    for kinds, *size in sizes + ([("link cpu link", 3, 2, 2), ("link cpu link link", 3, 2, 2), ("link link link link", 4, 1, 2)] if larger else []):
        for may_fail in (False, True):
            yield Crossing, (tuple(kinds.split()), *size, may_fail)


def is_found(worlds, mistake):
    """In which of its worlds the mistake shows, in words; None: in none."""
    for kind, args in worlds:
        try:
            explore(kind(*args, mistake=mistake))
        except Wrong as why:
            return str(why).split("(", maxsplit=1)[0]
    return None


def main():
    larger, passed, failed = "--larger" in sys.argv[1:], 0, 0
    for worlds in (list(handoff_worlds(larger)), list(slot_worlds(larger)), list(crossing_worlds(larger))):
        n_state = n_end = 0
        for kind, args in worlds:
            try:
                states, ends = explore(kind(*args))
                need(ends > 0, "there is no end")
                n_state, n_end, passed = n_state + states, n_end + ends, passed + 1
            except Wrong as why:
                failed += 1
                print(f"FAILED {kind.__name__}{args}: {why}")
        print(f"{kind.__name__}: {len(worlds)} worlds, {n_state} states, {n_end} ends")
        for mistake in kind.MISTAKES:
            why = is_found(worlds, mistake)
            passed, failed = passed + (why is not None), failed + (why is None)
            print(f"  {mistake}: {why}" if why else f"FAILED not noticed: {mistake}")
    print(f"protocols: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
