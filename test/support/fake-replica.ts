import { assert } from '../../src/base/assert.ts';
import { readU16, readU32, readU53, writeU16, writeU32, writeU53 } from '../../src/base/bytes.ts';
import { crc32 } from '../../src/base/crc.ts';
import { BLOCK_BYTES, ENTRY_HEADER_BYTES, ENTRY_MAGIC, Entry, GROUP_HEADER_BYTES } from '../../src/log/layout.ts';
import type { AppliedEntry, ProposeRefusal, ReplicaApi, ReplicaRole, StateMachine } from '../../src/replica/types.ts';
import { EntryType } from '../../src/replica/types.ts';

export interface FakeReplicaOptions {
  readonly machine: StateMachine;
  readonly segmentBytes?: number;
  readonly memoryBytes?: number;
}

/**
 * A replica of one in memory: lays entries with true headers into a byte array, applies them when the test says commit().
 * Positions, segment starts and the order of calls are those of the real one.
 */
export class FakeReplica implements ReplicaApi {
  id = 1;
  /** In step, by id. */
  followers: readonly number[] = [];
  readonly log: Uint8Array;
  readonly #machine: StateMachine;
  readonly #segmentBytes: number;
  #role: ReplicaRole = { role: 'follower', term: 0, leader: 0 };
  /** Positions of entries, by index − 1. */
  readonly positions: number[] = [];
  #end = 0;
  #applied = 0;
  #committing = 0;
  #chain = 0;
  #logTimeMs = 1_700_000_000_000;
  /** Positions below are not in the hot tail. */
  hotFrom = 0;
  coldReads = 0;
  fresh = true;
  inSync = true;
  refusal: ProposeRefusal | null = null;
  full = false;
  #whenInSync: ((ok: boolean) => void)[] = [];

  constructor({ machine, segmentBytes = 1 << 30, memoryBytes = 8 * 1024 * 1024 }: FakeReplicaOptions) {
    this.#machine = machine;
    this.#segmentBytes = segmentBytes;
    this.log = new Uint8Array(memoryBytes);
  }

  role(): ReplicaRole {
    return this.#role;
  }
  setRole(role: ReplicaRole): void {
    this.#role = role;
    this.#machine.onRoleChange(role);
    if (role.role === 'leader') return;
    for (const done of this.#whenInSync.splice(0)) done(false);
  }
  /** Wins an election: the no-op is proposed, not committed. */
  lead(term: number): void {
    this.setRole({ role: 'leader', term, leader: this.id });
    this.propose(EntryType.noop, 0, 0, 0, new Uint8Array(4));
  }
  /** Leads and is ready. */
  leadReady(term = this.#role.term + 1): void {
    this.lead(term);
    this.commit();
  }
  follow(term: number, leader = 2): void {
    this.setRole({ role: 'follower', term, leader });
  }

  propose(type: EntryType, topicId: number, queueId: number, bodyChecksum: number, body: Uint8Array): number | ProposeRefusal {
    if (this.#role.role !== 'leader') return 'notLeader';
    if (this.refusal !== null) return this.refusal;
    const sizeBytes = ENTRY_HEADER_BYTES + body.length;
    let at = this.#end;
    const segmentEnd = Math.ceil((at + 1) / this.#segmentBytes) * this.#segmentBytes;
    if (at === 0 || at + sizeBytes > segmentEnd) at = (at === 0 ? 0 : segmentEnd) + BLOCK_BYTES + GROUP_HEADER_BYTES;
    assert(at + sizeBytes <= this.log.length, 'the fake log is full');
    const entry = this.log.subarray(at, at + sizeBytes);
    writeU32(entry, Entry.magic, ENTRY_MAGIC);
    writeU32(entry, Entry.sizeBytes, sizeBytes);
    writeU53(entry, Entry.index, this.positions.length + 1);
    writeU53(entry, Entry.position, at);
    writeU53(entry, Entry.logTimeMs, this.#logTimeMs);
    writeU32(entry, Entry.term, this.#role.term);
    entry[Entry.type] = type;
    entry[Entry.version] = 1;
    writeU16(entry, Entry.queueId, queueId);
    writeU32(entry, Entry.topicId, topicId);
    writeU32(entry, Entry.bodyChecksum, bodyChecksum);
    writeU32(entry, Entry.previousChecksum, this.#chain);
    this.#chain = crc32(entry.subarray(0, Entry.checksum));
    writeU32(entry, Entry.checksum, this.#chain);
    entry.set(body, ENTRY_HEADER_BYTES);
    this.positions.push(at);
    this.#end = at + sizeBytes;
    return this.positions.length;
  }

  /** Applies what is proposed, up to `index`, in one run. */
  commit(index = this.positions.length): void {
    assert(this.#committing === 0, 'apply is not entered again');
    this.#committing = index;
    this.replay(this.#machine, this.#applied + 1, index);
    this.#applied = index;
    this.#committing = 0;
    this.#machine.applied(index);
  }

  /** commit() until nothing new is proposed by what was applied. */
  settle(): void {
    while (this.#applied < this.positions.length) this.commit();
  }

  /** Applies entries to any state machine: another replica, or the same after restore(). */
  replay(machine: StateMachine, from: number, to: number): void {
    for (let index = from; index <= to; index++) {
      const position = this.positions[index - 1] as number;
      const previous = index === 1 ? -1 : Math.floor((this.positions[index - 2] as number) / this.#segmentBytes);
      const segment = Math.floor(position / this.#segmentBytes);
      if (segment !== previous) machine.onSegmentStart(segment * this.#segmentBytes);
      machine.apply(this.entry(index));
    }
  }

  entry(index: number): AppliedEntry {
    const position = this.positions[index - 1] as number;
    const header = this.log.subarray(position, position + ENTRY_HEADER_BYTES);
    return {
      index,
      term: readU32(header, Entry.term),
      type: header[Entry.type] as EntryType,
      position,
      logTimeMs: readU53(header, Entry.logTimeMs),
      topicId: readU32(header, Entry.topicId),
      queueId: readU16(header, Entry.queueId),
      body: this.log.subarray(position + ENTRY_HEADER_BYTES, position + readU32(header, Entry.sizeBytes)),
    };
  }

  /** Uncommitted entries from `index` on are gone: another leader wrote over them. */
  truncateFrom(index: number): void {
    assert(index > this.#applied, 'what is applied stays');
    this.#end = this.positions[index - 1] ?? this.#end;
    this.positions.length = index - 1;
  }

  appliedIndex(): number {
    return this.#applied;
  }
  allApplied(): boolean {
    return this.#applied === this.positions.length;
  }
  commitIndex(): number {
    return this.#applied;
  }
  readBarrier(done: (ok: boolean) => void): void {
    done(this.#role.leader !== 0);
  }
  whenAllInSync(_index: number, done: (ok: boolean) => void): void {
    if (this.inSync) done(true);
    else this.#whenInSync.push(done);
  }
  nowInSync(): void {
    this.inSync = true;
    for (const done of this.#whenInSync.splice(0)) done(true);
  }
  quorumIsFresh(): boolean {
    return this.fresh;
  }
  logTimeMs(): number {
    return this.#logTimeMs;
  }
  /** Log time goes on. */
  passTime(ms: number): void {
    this.#logTimeMs += ms;
  }
  readFollowers(): readonly number[] {
    return this.followers;
  }
  diskFull(): boolean {
    return this.full;
  }
  endPosition(): number {
    return this.#end;
  }
  startPosition(): number {
    return this.#machine.startPosition();
  }
  readHot(position: number, sizeBytes: number): Uint8Array | null {
    return position < this.hotFrom || position + sizeBytes > this.#end ? null : this.log.subarray(position, position + sizeBytes);
  }
  readCold(into: Uint8Array, position: number): Promise<number> {
    this.coldReads++;
    // A read ends at its segment's end, as that of the files does.
    const sizeBytes = Math.min(into.length, this.#segmentBytes - (position % this.#segmentBytes));
    into.set(this.log.subarray(position, position + sizeBytes));
    return Promise.resolve(sizeBytes);
  }
}
