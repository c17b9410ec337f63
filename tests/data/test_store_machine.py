"""Any interleaving of writes, kills, damage, resumed runs and second writers: the serial result, or a refusal."""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from flowsr.data import FieldStore, create_store
from flowsr.data.store import damage_in
from flowsr.errors import FlowsrError
from flowsr.files import partial_path, tree_checksum
from flowsr.grid import Grid
from tests.data.fields import in_child, random_field
from tests.data.test_damage import damage, files_of

SHARDS = {"chunk": 2, "shard": 2}
FIELDS = [random_field(Grid((2, 3, 2), (0.5, 0.25, 0.1)), [0.0, 1.0], seed=seed) for seed in (0, 1)]
BOXES = [(time, slice(0, 2), part, slice(0, 2)) for time in (0, 1) for part in (slice(0, 2), slice(2, 3))]
NUMBERS = st.integers(0, len(BOXES) - 1)


def write(store, number):
    time, *box = BOXES[number]
    if not store.is_written("velocity", time, tuple(box)):
        store.write("velocity", FIELDS[0]["velocity"].values[(time, ..., *box)], time=time, box=tuple(box))


class Stores(RuleBasedStateMachine):
    """One target, and whoever writes to it."""

    serial = ""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path, self.store, self.damaged = self.folder / "a.zarr", None, False
        if not Stores.serial:
            with create_store(self.folder / "serial.zarr", FIELDS[0], **SHARDS) as store:
                for number in range(len(BOXES)):
                    write(store, number)
                Stores.serial = tree_checksum(store.publish())

    def teardown(self):
        self.let_go()
        shutil.rmtree(self.folder)

    def let_go(self):
        if self.store is not None:
            self.store.close()
        self.store = None

    @rule(fresh=st.booleans())
    def begin_or_resume(self, fresh):
        """A run starts, perhaps over; the one before was killed."""
        self.let_go()
        try:
            self.store = create_store(self.path, FIELDS[0], **SHARDS, fresh=fresh)
        except FlowsrError as error:
            assert self.damaged and self.path.exists() and "\n" not in str(error)
            return
        self.damaged = self.damaged and self.path.exists()  # what has the name stays until another takes it

    @precondition(lambda self: self.store is not None and not self.store.published)
    @rule(number=NUMBERS)
    def write_a_shard(self, number):
        try:
            write(self.store, number)
        except Exception:  # metadata that a damaged disk no longer has
            assert self.damaged
            self.let_go()

    @precondition(lambda self: self.store is not None and not self.store.published and not self.damaged)
    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=3))
    def a_worker_writes_shards(self, numbers):
        def work():
            attached = FieldStore(self.path)
            for number in numbers:
                write(attached, number)

        assert in_child(work) == 0

    @precondition(lambda self: self.store is not None and not self.store.published)
    @rule()
    def a_second_writer_is_refused(self):
        """Also where the first does over what is there already; whoever only wants that is given it."""

        def work():
            with pytest.raises(FlowsrError, match="another process is writing"):
                create_store(self.path, FIELDS[0], **SHARDS, fresh=self.path.exists())
            if self.path.exists() and not self.damaged:
                assert create_store(self.path, FIELDS[0], **SHARDS).published

        assert in_child(work) == 0

    @rule()
    def a_writer_of_something_else_is_refused(self):
        def work():
            with pytest.raises(FlowsrError):
                create_store(self.path, FIELDS[1], chunk=1, shard=1)

        if self.path.exists() or self.store is not None:
            assert in_child(work) == 0

    @rule()
    def kill(self):
        """A process that is gone holds no lock; what it wrote is on the disk."""
        self.let_go()

    @rule(seed=st.integers(0, 1 << 30))
    def the_disk_damages_a_file(self, seed):
        folder = self.path if self.path.exists() else partial_path(self.path)
        files = [file for file in files_of(folder) if file.name != "lock"] if folder.exists() else []
        if files:
            damage(random.Random(seed).choice(files), random.Random(seed + 1))
            self.damaged = True

    @precondition(lambda self: self.store is not None and not self.store.published)
    @rule(first=st.sampled_from([True, True, False]))
    def publish(self, first):
        """Mostly after what is missing was written."""
        for number in range(len(BOXES)) if first else ():
            if self.store is not None:
                self.write_a_shard(number)
        if self.store is None:
            return
        try:
            self.store.publish()
        except FlowsrError as error:
            assert "\n" not in str(error)
            return
        self.let_go()
        assert tree_checksum(self.path) == self.serial and not damage_in(self.path)
        self.damaged = False

    @invariant()
    def what_has_the_name_is_whole_unless_the_disk_damaged_it(self):
        if self.path.exists() and not self.damaged:
            assert tree_checksum(self.path) == self.serial


QUICK = settings(
    max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def test_any_interleaving_equals_the_serial_result_or_is_refused():
    run_state_machine_as_test(Stores, settings=QUICK)


@pytest.mark.slow
def test_many_interleavings_equal_the_serial_result_or_are_refused():
    run_state_machine_as_test(Stores, settings=settings(QUICK, max_examples=400, stateful_step_count=30))
