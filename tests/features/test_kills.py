"""What is killed at any moment goes on, with the bits of an extraction that nothing disturbed."""

import random
import shutil
import time

import extraction_child as child
import pytest
from extraction_parent import BATCH, bytes_of, interrupt, nothing_but_the_pass, start

from probe.features.extraction.work import works

pytestmark = pytest.mark.usefixtures("server")


class TestKills:
    def kill_and_finish(self, root, log, uninterrupted, seed):
        dice = random.Random(seed)
        for _ in range(dice.randint(1, 3)):
            process = start(child.extract, root, log)
            moment = child.rows_logged(log) + dice.randint(0, 200)
            while process.is_alive() and child.rows_logged(log) < moment:
                time.sleep(0.001)
            time.sleep(dice.uniform(0.0, 0.02))
            process.kill()
            process.join()
        kills_log = child.rows_logged(log)
        done = sum(len(w.plan.rows(b)) for e in root.glob("features/*") for w in works(e) for b in w.done())
        features = child.extract(root, log, delay=0.0)
        assert bytes_of(features) == uninterrupted[200]
        if kills_log and features.seconds != 0.0:
            assert child.rows_logged(log) - kills_log == 200 - done
        nothing_but_the_pass(root)

    @pytest.mark.parametrize("seed", range(5))
    def test_resumed_features_equal_uninterrupted_ones_bit_for_bit(self, root, log, uninterrupted, seed):
        self.kill_and_finish(root, log, uninterrupted, seed)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(5, 65))
    def test_the_same_in_many_trials(self, root, log, uninterrupted, seed):
        self.kill_and_finish(root, log, uninterrupted, seed)

    def test_a_kill_costs_the_blocks_in_flight_only(self, root, log, uninterrupted):
        interrupt(root, log, 100)
        assert bytes_of(child.extract(root, log, delay=0.0)) == uninterrupted[200]
        # In flight: one batch in the backbone, up to four waiting for the disk, one being written.
        assert 200 <= child.rows_logged(log) <= 200 + 6 * BATCH

    @pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
    def test_death_at_every_single_disk_operation(self, tmp_path, log, uninterrupted, step):
        for at in range(0, 320, step):
            root, done = tmp_path / f"cache-{at}", tmp_path / f"done-{at}"
            start(child.extract_and_die, root, log, at, done).join()
            assert bytes_of(child.extract(root, log, n=20, delay=0.0)) == uninterrupted[20], at
            nothing_but_the_pass(root)
            shutil.rmtree(root)
            if done.exists():
                break
        assert 40 < at < 280
