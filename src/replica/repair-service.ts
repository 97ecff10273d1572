import type { Clock } from '../io/clock.ts';
import type { LogCorrupt } from '../log/errors.ts';
import { snapshotPosition } from '../log/snapshot-format.ts';
import type { SnapshotStore } from '../log/snapshot-store.ts';
import type { Log, LogCursor, RecoveryDamage } from '../log/types.ts';
import type { LogDamage } from '../protocol/raft-requests.ts';
import type { ReplicaId } from '../raft/types.ts';
import { untilOthersLead } from './leader-question.ts';
import type { PeerLinks, RepairFrameHandlers } from './peer-links.ts';
import { answerGroups, LogRepair, RepairStopped, type RepairView } from './repair.ts';
import { RepairKind, type RepairQuestion, RepairStatus } from './repair-frames.ts';
import { type OwnAnswer, RepairPeers } from './repair-peers.ts';
import { Scrub } from './scrub.ts';
import { answerHash, SliceComparer } from './slice-comparer.ts';
import { answerSnapshot, askForSnapshot, repairSnapshot } from './snapshot-repair.ts';
import { VoteFloorQuestion } from './vote-floor.ts';

/** A place is looked at so often before a read that still finds it damaged is believed. */
const MAX_TRIES = 8;
/** A replica that starts waits so long at most for a peer that has what its last write lacks; then it starts under a floor. */
const BRIDGE_PATIENCE_MS = 2_000;
/** Between two looks at damage of which nobody knows yet whether it is committed. */
const UNCOMMITTED_RETRY_MS = 100;
/** Damage that reads report while as much is being mended already is found again by the next read. */
const MAX_REPORTED = 64;
const NO_READ = { position: -1, tries: 0 };

export interface RepairServicePorts {
  readonly clock: Clock;
  /** All other voters of the group. */
  others(): readonly ReplicaId[];
  readonly bytesPerSecond: number;
  readonly scrubBytesPerSecond: number;
  /** Links to the peers are wanted before the log is recovered. */
  linkUp(): Promise<PeerLinks>;
  onEvent(name: string, fields: Record<string, string | number>): void;
  /** No replica has a good copy, or the disk failed: the replica stops (FAULTS 5). */
  failed(error: unknown): void;
}

/** The log of a replica that runs. */
export interface RunningLog {
  readonly log: Log;
  readonly snapshots: SnapshotStore;
  commitIndex(): number;
  /** @param done whether this replica leads, as a majority has just confirmed */
  confirmLeads(done: (leads: boolean) => void): void;
}

/** Everything about damaged bytes of one replica: found, answered, fetched, compared; while it recovers and while it runs. */
export class RepairService {
  readonly #ports: RepairServicePorts;
  readonly #repair: LogRepair;
  readonly #peers: RepairPeers;
  readonly #floor: VoteFloorQuestion;
  readonly #comparer: (log: Log) => SliceComparer;
  #links: PeerLinks | null = null;
  #view: RepairView | null = null;
  #running: RunningLog | null = null;
  #snapshots: SnapshotStore | null = null;
  #scrub: Scrub | null = null;
  #compared: SliceComparer | null = null;
  /** Damage that is being mended, by position: what `verify` and the metrics name. Bounded by the reads that wait. */
  #lastRead = NO_READ;
  readonly #damaged = new Map<number, string>();
  #stopped = false;

  constructor(ports: RepairServicePorts) {
    this.#ports = ports;
    const { clock, onEvent } = ports;
    this.#peers = new RepairPeers({
      clock,
      links: {
        sendRepair: (...args) => this.#links?.sendRepair(...args) ?? false,
        repairPeers: () => this.#links?.repairPeers() ?? [],
      },
      answer: (question) => this.#answer(question),
      failed: (error) => this.#failed(error),
    });
    this.#repair = new LogRepair({
      clock,
      peers: this.#peers,
      others: ports.others,
      bytesPerSecond: ports.bytesPerSecond,
      onEvent,
    });
    this.#floor = new VoteFloorQuestion({ clock, peers: this.#peers, others: ports.others, onEvent });
    this.#comparer = (log) => new SliceComparer({ log, peers: this.#peers, onEvent });
  }

  /** Takes part in what goes over the links. */
  link(links: PeerLinks): void {
    this.#links = links;
    const handlers: RepairFrameHandlers = {
      onFrame: (peer, type, head, bytes) => this.#peers.onFrame(peer, type, head, bytes),
      onLost: (peer) => this.#peers.onLost(peer),
    };
    links.repair = handlers;
  }

  /** For CommitLog.open(): the log is mended before anything is said that relies on it. */
  async recovering({ verifier, from, damage, committedIndex }: RecoveryDamage): Promise<void> {
    const all = (): number => Number.MAX_SAFE_INTEGER;
    this.#view = { verifier, committedIndex: () => committedIndex, lastIndex: all, givenIndex: all, isRunning: false };
    await this.#ports.linkUp();
    await this.#watched(damage, () => this.#repair.mend(this.#view as RepairView, from, damage.position));
  }

  /** For CommitLog.open(): what looks like a torn last write is what a peer has, if the groups behind it here go on from that. */
  async bridging({ verifier, from, committedIndex }: RecoveryDamage, laterIndex: number): Promise<boolean> {
    const all = (): number => Number.MAX_SAFE_INTEGER;
    this.#view = { verifier, committedIndex: () => committedIndex, lastIndex: () => laterIndex, givenIndex: all, isRunning: false };
    await this.#ports.linkUp();
    return this.#repair.bridge(this.#view, from, BRIDGE_PATIENCE_MS);
  }

  /** What lies here cannot be relied upon: waits until the group is there without it. Rejects with RepairStopped. */
  async untilOthersLead(): Promise<ReplicaId> {
    await this.#ports.linkUp();
    return untilOthersLead({ clock: this.#ports.clock, peers: this.#peers, onEvent: this.#ports.onEvent });
  }

  /** A state at the head of a segment that recovery cannot do without. @returns false when no peer has it */
  async recoverSnapshot(store: SnapshotStore, position: number): Promise<boolean> {
    this.#snapshots = store;
    await this.#ports.linkUp();
    return repairSnapshot(this.#ports, this.#peers, store, position);
  }

  /** The replica runs: reads that meet damage wait for its end, and the scrub looks for more. */
  run(running: RunningLog): void {
    const { log } = running;
    this.#running = running;
    this.#snapshots = running.snapshots;
    const lastIndex = (): number => Math.min(running.commitIndex(), log.durableIndex);
    // What is not committed may be cut away and written anew at the same place: only what never changes is mended.
    const givenIndex = (): number => log.durableIndex;
    this.#view = { verifier: log.verifier, committedIndex: running.commitIndex, lastIndex, givenIndex, isRunning: true };
    log.onDamage = (damage) => this.#onDamage(damage);
    this.#compared = this.#comparer(log);
    this.#scrub = new Scrub({
      clock: this.#ports.clock,
      log,
      bytesPerSecond: this.#ports.scrubBytesPerSecond,
      comparer: this.#compared,
      lastIndex,
      mend: (cursor) => this.#mendFrom(cursor),
      passed: () => this.#scrubSnapshots(),
      failed: (error) => this.#failed(error),
    });
    this.#scrub.start();
  }

  /** See VoteFloorQuestion. */
  watchFloor(current: () => number, lift: () => void): void {
    this.#floor.ask(current, lift).catch((error: unknown) => this.#failed(error));
  }

  /** A read found the bytes at `position` damaged and did not serve them. */
  reportDamage(position: number): void {
    if (this.#damaged.has(position) || this.#damaged.size >= MAX_REPORTED || this.#running === null) return;
    this.#mendAt(position, 'damaged entry').catch((error: unknown) => this.#failed(error));
  }

  /** The newest ones that were found, oldest first. */
  damages(): readonly LogDamage[] {
    return this.#repair.found;
  }

  get counts() {
    return {
      ...this.#repair.counts,
      scrubbedBytes: this.#scrub?.bytes ?? 0,
      scrubPasses: this.#scrub?.passes ?? 0,
      slicesCompared: this.#compared?.compared ?? 0,
      differences: this.#compared?.differences ?? 0,
      damagedNow: this.#damaged.size,
    };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#repair.stop();
    this.#floor.stop();
    this.#peers.stop();
    if (this.#running !== null) this.#running.log.onDamage = null;
    await this.#scrub?.stop();
  }

  /** A cold read waits here. When it comes again at once, the damage may begin before where its search began. */
  async #onDamage(damage: LogCorrupt): Promise<void> {
    const view = this.#view as RepairView;
    const { index } = await view.verifier.cursorBefore(damage.position);
    if (index >= view.lastIndex()) {
      // A leader of a moment ago reads for a follower what it does not know to be committed yet. Only what is may be mended, and soon is.
      if (this.#stopped) throw new RepairStopped('stopped');
      await new Promise<void>((resolve) => void this.#ports.clock.setTimer(UNCOMMITTED_RETRY_MS, resolve));
      return;
    }
    const { position, tries } = this.#lastRead;
    this.#lastRead = { position: damage.position, tries: position === damage.position ? tries + 1 : 0 };
    if (this.#lastRead.tries > MAX_TRIES) throw damage;
    const before = this.#repair.counts.repairs;
    await this.#mendAt(damage.position, damage.message, this.#lastRead.tries);
    if (this.#repair.counts.repairs > before) this.#lastRead = NO_READ;
  }

  async #mendAt(position: number, reason: string, stepsBack = 0): Promise<void> {
    const view = this.#view as RepairView;
    this.#damaged.set(position, reason);
    try {
      const from = await view.verifier.cursorBefore(position, stepsBack);
      await this.#repair.mend(view, from, position);
    } finally {
      this.#damaged.delete(position);
    }
  }

  async #mendFrom(cursor: LogCursor): Promise<LogCursor> {
    this.#damaged.set(cursor.endPosition, 'found by the scrub');
    try {
      return await this.#repair.mend(this.#view as RepairView, cursor, cursor.endPosition);
    } finally {
      this.#damaged.delete(cursor.endPosition);
    }
  }

  async #watched(damage: LogCorrupt, work: () => Promise<unknown>): Promise<void> {
    this.#damaged.set(damage.position, damage.message);
    try {
      await work();
    } finally {
      this.#damaged.delete(damage.position);
    }
  }

  async #scrubSnapshots(): Promise<void> {
    const { snapshots, log } = this.#running as RunningLog;
    for (const meta of snapshots.list()) {
      if (this.#stopped) return;
      if (await snapshots.isWhole(meta)) continue;
      this.#ports.onEvent('snapshot damaged', { index: meta.index, position: meta.position });
    }
    // Those of earlier passes, too: nobody had it to give then, or nobody answered (simulation seeds 35169, 36449).
    for (const name of snapshots.damaged()) {
      const position = snapshotPosition(name);
      if (position >= log.start.position) await askForSnapshot(this.#ports, this.#peers, snapshots, position);
    }
  }

  async #answer({ kind, a, b }: Omit<RepairQuestion, 'id'>): Promise<OwnAnswer> {
    const view = this.#view;
    if (kind === RepairKind.floor) {
      // While it recovers nobody knows what it has.
      if (this.#running === null) return { status: RepairStatus.busy };
      return { status: this.#running.log.durableIndex >= a ? RepairStatus.ok : RepairStatus.missing };
    }
    if (kind === RepairKind.leads) {
      const running = this.#running;
      const leads = running !== null && (await new Promise<boolean>((resolve) => running.confirmLeads(resolve)));
      return { status: leads ? RepairStatus.ok : RepairStatus.missing };
    }
    // While it recovers it may have it: "missing" would let the one that asks give up.
    if (kind === RepairKind.snapshot)
      return this.#snapshots === null ? { status: RepairStatus.busy } : answerSnapshot(this.#snapshots, a, b);
    if (view === null) return { status: RepairStatus.missing };
    if (kind === RepairKind.groups) return answerGroups(view, a, b, (position) => this.reportDamage(position));
    if (kind === RepairKind.hash && this.#running !== null) return answerHash(this.#running.log, a, b, view.committedIndex());
    return { status: RepairStatus.missing };
  }

  #failed(error: unknown): void {
    if (!this.#stopped && !(error instanceof RepairStopped)) this.#ports.failed(error);
  }
}
