import type { Clock } from '../io/clock.ts';
import { isOutOfSpace } from '../io/disk.ts';
import { LogCorrupt } from '../log/errors.ts';
import { placesBehind } from '../log/group-walk.ts';
import { type PatchResult, type PeerGroups, patchLog } from '../log/log-patch.ts';
import { PEER_RUN_BYTES, readForPeer } from '../log/log-verifier.ts';
import type { LogCursor, LogFiles } from '../log/types.ts';
import type { LogDamage } from '../protocol/raft-requests.ts';
import type { ReplicaId } from '../raft/types.ts';
import { RepairKind, RepairStatus } from './repair-frames.ts';
import type { OwnAnswer, RepairPeers } from './repair-peers.ts';

/** Between two rounds over the peers while one of them may still have a good copy. */
const RETRY_MS = 500;
const MAX_FOUND = 64;

/** The log that is repaired, running or still being recovered. */
export interface RepairView {
  readonly verifier: LogFiles;
  /** Known to be committed here. */
  committedIndex(): number;
  /** Whole groups reach so far in the files; Number.MAX_SAFE_INTEGER while nobody knows. */
  lastIndex(): number;
  /** Whole groups that a peer may be given, committed or not: a group that has no leader yet has damaged replicas to help, too. */
  givenIndex(): number;
  /** The log's start moves on: what the peers have cut away is about to be cut here. */
  readonly isRunning: boolean;
}

export interface RepairCounts {
  damages: number;
  repairs: number;
  repairedBytes: number;
  repairMs: number;
}

export interface LogRepairPorts {
  readonly clock: Clock;
  readonly peers: Pick<RepairPeers, 'ask' | 'reachable'>;
  /** All other replicas of the group: while one of them is not heard, a good copy may exist. */
  others(): readonly ReplicaId[];
  /** Fetched bytes per second, at most. */
  readonly bytesPerSecond: number;
  onEvent(name: string, fields: Record<string, string | number>): void;
}

/** Why a peer could not help: for good, or perhaps later. */
type Refusal = 'never' | 'later';

export class RepairStopped extends Error {
  override name = 'RepairStopped';
}

/**
 * Damaged groups of the log are replaced by those of a peer (I4): found by walking from a cursor, fetched whole from whoever has
 * them, verified against the chain, written with the same bytes, read back. One repair at a time.
 */
export class LogRepair {
  readonly counts: RepairCounts = { damages: 0, repairs: 0, repairedBytes: 0, repairMs: 0 };
  /** The newest MAX_FOUND damages, oldest first. */
  found: readonly LogDamage[] = [];
  readonly #ports: LogRepairPorts;
  #runBuffer: Uint8Array | null = null;
  #work: Promise<unknown> = Promise.resolve();
  #paidUntilMs = 0;
  #stopped = false;

  constructor(ports: LogRepairPorts) {
    this.#ports = ports;
  }

  /** Made when it is needed first: most processes end without a damage. */
  get #buffer(): Uint8Array {
    this.#runBuffer ??= new Uint8Array(PEER_RUN_BYTES);
    return this.#runBuffer;
  }

  /**
   * Verifies the log from `from` to behind `position` and mends what is damaged in between.
   * Rejects with LogCorrupt when no peer has a good copy and none that has not been heard may have one; with RepairStopped.
   * @returns the cursor behind `position`
   */
  mend(view: RepairView, from: LogCursor, position: number): Promise<LogCursor> {
    const done = this.#work.then(() => this.#mend(view, from, position));
    this.#work = done.catch(() => undefined);
    return done;
  }

  /**
   * Asks each peer that is heard for the groups behind `from`, up to view.lastIndex(): what it gives is taken only when a whole group here
   * goes on from it, committed or not. @returns false when nobody had that in time: nothing is changed then
   */
  async bridge(view: RepairView, from: LogCursor, patienceMs: number): Promise<boolean> {
    const untilMs = this.#ports.clock.monotonicMs() + patienceMs;
    const without = new Set<ReplicaId>();
    const where = { index: from.index + 1, position: from.endPosition, fault: 'torn' };
    for (;;) {
      for (const peer of this.#ports.peers.reachable) {
        if (without.has(peer)) continue;
        const { result, refusal } = await this.#patchFrom(view, peer, from, true);
        if (this.#stopped) throw new RepairStopped('stopped');
        if (result.ok) {
          this.counts.damages++;
          this.counts.repairs++;
          this.counts.repairedBytes += result.repairedBytes;
          this.found = [...this.found.slice(1 - MAX_FOUND), where];
          this.#ports.onEvent('log repaired', { ...where, toIndex: result.end.index, bytes: result.repairedBytes, ms: 0 });
          return true;
        }
        if (refusal !== 'later') without.add(peer);
      }
      if (this.#ports.others().every((id) => without.has(id)) || this.#ports.clock.monotonicMs() >= untilMs) return false;
      await this.#pause(RETRY_MS);
      if (this.#stopped) throw new RepairStopped('stopped');
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  async #mend(view: RepairView, from: LogCursor, position: number): Promise<LogCursor> {
    const { verifier } = view;
    let cursor = from;
    let anchor = from;
    let stepsBack = 0;
    while (cursor.endPosition <= position && cursor.index < view.lastIndex()) {
      if (this.#stopped) throw new RepairStopped('stopped');
      const start = verifier.startCursor();
      // Retention took the place away meanwhile.
      if (cursor.index < start.index) [cursor, anchor] = [start, start];
      const run = await verifier.readRun(cursor, view.lastIndex(), this.#buffer);
      if (typeof run !== 'string') {
        cursor = run.end;
        continue;
      }
      this.counts.damages++;
      const where = { index: cursor.index + 1, position: cursor.endPosition, fault: run };
      this.found = [...this.found.slice(1 - MAX_FOUND), where];
      this.#ports.onEvent('log damaged', where);
      const startedMs = this.#ports.clock.monotonicMs();
      const fromStart = anchor.index <= start.index;
      const result = await this.#patch(view, cursor, run, fromStart);
      if (result.ok) {
        this.counts.repairs++;
        this.counts.repairedBytes += result.repairedBytes;
        const ms = Math.round(this.#ports.clock.monotonicMs() - startedMs);
        this.counts.repairMs += ms;
        this.#ports.onEvent('log repaired', { ...where, toIndex: result.end.index, bytes: result.repairedBytes, ms });
        cursor = result.end;
        continue;
      }
      // Whole groups before it that the peers' do not continue: the damage (an old write in its place) begins further back.
      if (fromStart) throw new LogCorrupt(cursor.endPosition, `${run}, and no replica has a good copy`);
      anchor = await verifier.cursorBefore(anchor.endPosition - 1, 2 ** stepsBack++ - 1);
      cursor = anchor;
    }
    return cursor;
  }

  /** @returns a mismatch when the peers agree that it begins earlier; else it is mended, or the promise rejects */
  async #patch(view: RepairView, cursor: LogCursor, fault: string, fromStart: boolean): Promise<PatchResult> {
    let at = cursor;
    const repairedBytes = 0;
    let waits = false;
    for (;;) {
      const refusals = new Map<ReplicaId, Refusal>();
      let mismatch: PatchResult | null = null;
      let moved = false;
      for (const peer of this.#ports.peers.reachable) {
        const { result, refusal } = await this.#patchFrom(view, peer, at);
        if (refusal !== null) refusals.set(peer, refusal);
        if (this.#stopped) throw new RepairStopped('stopped');
        if (result.ok) return { ...result, repairedBytes: repairedBytes + result.repairedBytes };
        if (result.reason === 'mismatch') {
          mismatch = result;
          refusals.set(peer, 'never');
        }
        if (result.at.index > at.index) {
          // What others did not have further back says nothing of what is missing here.
          refusals.clear();
          if (refusal !== null) refusals.set(peer, refusal);
          at = result.at;
          moved = true;
        }
        if (result.reason === 'unproven') refusals.set(peer, 'later');
      }
      const hopeless = this.#ports.others().every((id) => refusals.get(id) === 'never');
      // At the log's start there is nothing further back: only a peer that was not heard yet can help.
      if (mismatch !== null && (hopeless || !fromStart)) return mismatch;
      if (hopeless) throw new LogCorrupt(at.endPosition, `${fault}, and no replica has a good copy`);
      if (moved) continue;
      if (!waits) this.#ports.onEvent('repair waits for a good copy', { index: at.index + 1, position: at.endPosition });
      waits = true;
      await this.#pause(RETRY_MS);
      if (this.#stopped) throw new RepairStopped('stopped');
      const start = view.verifier.startCursor();
      // Cut away here as well: nothing of it is left to be mended.
      if (at.index < start.index) return { ok: true, end: start, repairedBytes };
    }
  }

  /** @param provenHere that it is committed at the peer is not enough */
  async #patchFrom(
    view: RepairView,
    peer: ReplicaId,
    from: LogCursor,
    provenHere = false,
  ): Promise<{ result: PatchResult; refusal: Refusal | null }> {
    let refusal: Refusal | null = null;
    const fetch = async (cursor: LogCursor): Promise<PeerGroups | null> => {
      await this.#pace();
      if (this.#stopped) return null;
      const answer = await this.#ports.peers.ask(peer, RepairKind.groups, cursor.index + 1, cursor.endPosition);
      if (answer?.status === RepairStatus.ok && answer.bytes.length > 0) {
        this.#charge(answer.bytes.length);
        return { bytes: answer.bytes, committedIndex: provenHere ? 0 : answer.a };
      }
      // Committed there and not retained any more: it never comes back.
      const gone = answer?.status === RepairStatus.missing && answer.a > cursor.index && !view.isRunning;
      refusal = gone || answer?.status === RepairStatus.damaged ? 'never' : 'later';
      return null;
    };
    const { verifier } = view;
    const result = await patchLog({
      store: verifier,
      segmentBytes: verifier.segmentBytes,
      from,
      fetch,
      lastIndex: view.lastIndex(),
      buffer: this.#buffer,
    }).catch((error: unknown): PatchResult => {
      // No room to allocate a lost file end again: no reason to stop (FAULTS 3).
      if (!isOutOfSpace(error)) throw error;
      refusal = 'later';
      return { ok: false, reason: 'missing', at: from };
    });
    const start = verifier.startCursor();
    // Cut away while it was mended: what follows is looked for where the log begins now.
    if (result.ok && result.end.index < start.index) return { result: { ...result, end: start }, refusal: null };
    // What a question ahead of it has heard by now is of a place that may not be reached.
    return { result, refusal: !result.ok && result.reason === 'missing' ? refusal : null };
  }

  #charge(sizeBytes: number): void {
    const nowMs = this.#ports.clock.monotonicMs();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, nowMs) + (sizeBytes * 1000) / this.#ports.bytesPerSecond;
  }

  #pace(): Promise<void> {
    const waitMs = this.#paidUntilMs - this.#ports.clock.monotonicMs();
    return waitMs <= 0 ? Promise.resolve() : this.#pause(waitMs);
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#ports.clock.setTimer(delayMs, resolve);
    });
  }
}

/** Answers a peer that repairs its log: what is whole here, committed or not; it proves what it takes. */
export async function answerGroups(
  view: RepairView,
  index: number,
  endPosition: number,
  damaged: (position: number) => void,
): Promise<OwnAnswer> {
  const { verifier } = view;
  const a = view.committedIndex();
  if (index <= verifier.startCursor().index) return { status: RepairStatus.missing, a };
  const buffer = new Uint8Array(PEER_RUN_BYTES);
  for (const place of placesBehind(endPosition, verifier.segmentBytes)) {
    const run = await readForPeer(verifier, place, index, Math.max(a, view.givenIndex()), buffer);
    if (run !== null) return { status: RepairStatus.ok, a, bytes: run.bytes };
  }
  if (index > a) return { status: RepairStatus.missing, a };
  damaged(endPosition);
  return { status: RepairStatus.damaged, a };
}
