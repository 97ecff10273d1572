import { Producers } from '../../../src/broker/producers.ts';
import type { DiskFile } from '../../../src/io/disk.ts';
import type { Io } from '../../../src/io/io.ts';
import { HardStateFile, type StoredHardState } from '../../../src/log/hard-state.ts';
import { LogVerifier } from '../../../src/log/log-verifier.ts';
import { RaftDriver } from '../../../src/replica/driver.ts';
import { Scrub } from '../../../src/replica/scrub.ts';
import { startBroker } from '../broker-process.ts';
import { type AnyMethod, type Canary, nothing, patch } from './canary.ts';

/** A disk that says "done" when a log write begins. */
function hastyDisk(io: Io): Io {
  return withLogFiles(io, (file, bytes, position) => {
    file.write(bytes.slice(), position).catch(() => {});
    return Promise.resolve();
  });
}

/** A disk whose failed log writes count like those that came through. */
function forgivingDisk(io: Io): Io {
  return withLogFiles(io, (file, bytes, position) => file.write(bytes, position).catch(() => {}));
}

/** The same disk with another write() of the CommitLog's files. */
function withLogFiles(io: Io, write: (file: DiskFile, bytes: Uint8Array, position: number) => Promise<void>): Io {
  const disk = Object.create(io.disk) as Io['disk'];
  for (const name of ['mkdir', 'list', 'exists', 'rename', 'remove', 'syncDirectory', 'space', 'bootId', 'allocateAligned'] as const) {
    Object.defineProperty(disk, name, { value: (io.disk[name] as AnyMethod).bind(io.disk) });
  }
  disk.open = async (path, options) => {
    const file = await io.disk.open(path, options);
    if (!path.includes('/commitlog/') || options.durable !== true) return file;
    return {
      path: file.path,
      alignmentBytes: file.alignmentBytes,
      write: (bytes, position) => write(file, bytes, position),
      read: (into, position) => file.read(into, position),
      sync: () => file.sync(),
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      sizeBytes: () => file.sizeBytes(),
      close: () => file.close(),
    };
  };
  return { clock: io.clock, random: io.random, net: io.net, disk };
}

/** What is said before it is on the disk, or believed of the disk without reason. */
export const DISK_CANARIES: readonly Canary[] = [
  {
    name: 'a follower acknowledges on receipt',
    breaks: 'FAULTS 1: no append reply before its write is synced',
    caughtBy: ['not synced'],
    firstSeed: 1,
    seeds: 10,
    plant: () =>
      patch(
        RaftDriver.prototype,
        'stepAppend',
        (original) =>
          function (this: RaftDriver, message: { lastIndex: number; term: number; groups: unknown }, bytes: Uint8Array) {
            const fault = original.call(this, message, bytes);
            if (fault === null && bytes.length > 0) this.stored(message.lastIndex, message.term);
            return fault;
          },
      ),
  },
  {
    name: 'an unsynced write counts',
    breaks: 'I2: synced before it is acknowledged',
    caughtBy: ['not synced', 'uncommitted shown'],
    firstSeed: 1,
    seeds: 10,
    plant: nothing,
    startBroker: (io, ...rest) => startBroker(hastyDisk(io), ...rest),
  },
  {
    name: 'a vote is spoken before it is on the disk',
    breaks: 'FAULTS 4: term and vote on stable storage before they are spoken of',
    caughtBy: ['not synced'],
    firstSeed: 1,
    seeds: 10,
    plant: () =>
      patch(
        HardStateFile.prototype,
        'save',
        (original) =>
          function (this: HardStateFile, ...args: never[]) {
            (original.apply(this, args) as Promise<void>).catch(() => {});
            return Promise.resolve();
          },
      ),
  },
  {
    name: 'a failed write counts',
    breaks: 'I3: a failed write poisons the store',
    caughtBy: ['not synced', 'uncommitted shown', 'Error', 'AssertionError'],
    firstSeed: 1,
    seeds: 20,
    faults: ['diskError'],
    plant: nothing,
    startBroker: (io, ...rest) => startBroker(forgivingDisk(io), ...rest),
  },
  {
    name: 'a restart forgets its last term',
    breaks: 'FAULTS 4: term and vote survive every crash',
    caughtBy: ['went back', 'two leaders', 'not synced'],
    firstSeed: 1,
    seeds: 10,
    faults: ['kill', 'powerLoss', 'isolate'],
    plant: () =>
      patch(
        HardStateFile.prototype,
        'load',
        (original) =>
          function (this: HardStateFile) {
            const stored = original.call(this) as StoredHardState | null;
            return stored === null ? null : { ...stored, term: Math.max(0, stored.term - 1), votedFor: 0 };
          },
      ),
  },
  {
    name: 'a repair that writes nothing',
    breaks: 'FAULTS 5: what was repaired is read back before it counts',
    caughtBy: ['not live', 'AssertionError'],
    firstSeed: 1,
    seeds: 20,
    faults: ['rot'],
    plant: () => patch(LogVerifier.prototype, 'rewrite', () => () => Promise.resolve()),
  },
  {
    name: 'nobody looks for damage',
    breaks: 'FAULTS 5: what is damaged on a disk is found and repaired while a good copy is left',
    caughtBy: ['not identical', 'not live'],
    firstSeed: 1,
    seeds: 60,
    faults: ['rot'],
    plant: () => patch(Scrub.prototype, 'start', () => () => {}),
  },
  {
    name: 'a restored state lacks what producers have sent',
    breaks: 'FAULTS 7: the state after recovery is that of a replica that never fell',
    caughtBy: ['state differs', 'duplicated', 'not identical'],
    firstSeed: 1,
    seeds: 40,
    faults: ['kill', 'powerLoss'],
    plant: () => patch(Producers.prototype, 'restore', () => () => {}),
  },
];
