import { expect, test } from 'vitest';
import type { ConsumeQueue } from '../../src/log/consume-queue-types.ts';
import { BLOCK_BYTES } from '../../src/log/layout.ts';
import { recoverReplica } from '../../src/replica/recover.ts';
import type { StateMachine } from '../../src/replica/types.ts';
import { DerivedStores } from '../../src/server/derived-files.ts';
import { bodyOf, SMALL_SEGMENT_BYTES, seededRandom } from '../log/support.ts';
import { during } from '../replica/support.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryDisk } from '../support/memory-disk.ts';

/**
 * Simulation seed 22 with the workload `selection` and rot of derived files: a bit flipped in a unit of a ConsumeQueue whose entry lies
 * before the log's start. The start cut the queue there, so it ended at offset 3 where the oldest state says 8; nothing older can be
 * replayed, so the state was taken all the same, and the next batch, which has offset 8, failed an assertion behind the unit of
 * offset 2: the replica could not start any more. Now what is left of the queues goes, since nothing before the log's start is needed.
 */
const UNITS = 8;
const UNIT_BYTES = 40;
const DIRECTORY = '/data';

/** One queue, of which the state at the log's start has eight messages and the log after it one more. */
class OneQueue implements StateMachine {
  readonly #derived: DerivedStores;
  queue: ConsumeQueue | null = null;

  constructor(derived: DerivedStores) {
    this.#derived = derived;
  }
  apply(): void {}
  applied(): void {}
  onSegmentStart(): void {}
  startPosition(): number {
    return 0;
  }
  snapshot(): Uint8Array {
    return new Uint8Array(1);
  }
  restore(): boolean {
    this.queue = this.#derived.queue('orders', 1, 0);
    return this.queue.restore(0, UNITS);
  }
  clear(): void {}
  digest(): number {
    return 1;
  }
  onRoleChange(): void {}
}

async function open(clock: ManualClock, disk: MemoryDisk) {
  const derived = await during(
    clock,
    DerivedStores.open(disk, DIRECTORY, () => undefined),
  );
  const stateMachine = new OneQueue(derived);
  const recovered = await during(
    clock,
    recoverReplica({
      disk,
      clock,
      directory: DIRECTORY,
      clusterId: 'test',
      segmentBytes: SMALL_SEGMENT_BYTES,
      hotTail: { chunkBytes: SMALL_SEGMENT_BYTES - BLOCK_BYTES, maxChunks: 4 },
      flush: 'sync',
      asyncFlushMs: 50,
      reserveBytes: 0,
      stateMachine,
      derived,
      logHandlers: { onDurable: () => undefined, onPoisoned: () => undefined },
    }),
  );
  return { derived, stateMachine, ...recovered };
}

test('FAULTS 5 a ConsumeQueue that is damaged before the start of the log does not keep the replica from starting', async () => {
  const clock = new ManualClock();
  const disk = new MemoryDisk({ clock, random: seededRandom(3) });
  const first = await open(clock, disk);
  for (let i = 0; i < 2; i++) {
    const { body, checksum } = bodyOf(i + 1, 3_000_000);
    first.log.append(3, 0, 0, checksum, body, 1, 1000);
    first.log.closeGroup();
    first.log.takeClosed();
    for (let wait = 0; wait < 1000 && first.log.durableIndex < first.log.lastIndex; wait++) await clock.run(10);
  }
  const queue = first.derived.queue('orders', 1, 0);
  for (let offset = 0; offset < UNITS; offset++) queue.append(offset, BLOCK_BYTES + offset, 1000, 64, 1, 0);
  await during(clock, first.derived.flush(first.log.endPosition));
  await during(clock, first.derived.sync());
  const boundary = await during(clock, first.log.boundaryAt(1));
  const head = SMALL_SEGMENT_BYTES + BLOCK_BYTES;
  const place = { index: 1, term: 1, position: head, logTimeMs: 1000, previousChecksum: boundary?.previousChecksum ?? 0, stateDigest: 1 };
  await during(clock, first.snapshots.save(place, first.stateMachine.snapshot()));
  await during(clock, first.log.cutTo(SMALL_SEGMENT_BYTES));
  await during(clock, first.derived.close());
  await during(clock, first.log.close());
  await during(clock, first.hardState.close());
  const path = `${DIRECTORY}/consumequeue/orders/0/${'0'.repeat(20)}`;
  const at = 4 * UNIT_BYTES + 30;
  disk.poke(path, at, Uint8Array.of((disk.peek(path, at, 1)[0] as number) ^ 4));

  const { stateMachine, log } = await open(clock, disk);
  expect(log.start.position).toBe(head);
  expect(stateMachine.queue?.nextOffset).toBe(UNITS);
  stateMachine.queue?.append(UNITS, head, 1000, 64, 1, 0);
  expect(stateMachine.queue?.nextOffset).toBe(UNITS + 1);
});
