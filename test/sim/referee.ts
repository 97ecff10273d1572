import type { RaftStatus } from '../../src/protocol/requests.ts';
import type { Message } from '../../src/raft/types.ts';
import { CommittedChecker } from './checkers/committed.ts';
import { FabricatedChecker } from './checkers/fabricated.ts';
import { LeadersChecker } from './checkers/leaders.ts';
import type { Acked } from './checkers/lost.ts';
import { OffsetBackChecker } from './checkers/offset-back.ts';
import { OwnersChecker } from './checkers/owners.ts';
import { ProgressChecker } from './checkers/progress.ts';
import { ReadersChecker } from './checkers/readers.ts';
import { SyncedChecker } from './checkers/synced.ts';
import { ClientObserver } from './client-observer.ts';
import { DurableProbe } from './durable-probe.ts';
import type { NetWatcher, SimNet } from './net.ts';
import { PeerObserver } from './peer-observer.ts';
import type { SimProcess } from './process.ts';
import type { SimScheduler } from './scheduler.ts';

/** All checkers of a run and what feeds them. */
export class Referee implements NetWatcher {
  readonly probe = new DurableProbe();
  readonly synced: SyncedChecker;
  readonly readers = new ReadersChecker();
  readonly fabricated = new FabricatedChecker();
  readonly offsets = new OffsetBackChecker();
  readonly owners = new OwnersChecker();
  readonly leaders = new LeadersChecker();
  readonly progress = new ProgressChecker();
  readonly committed = new CommittedChecker();
  /** What clients were told is stored. */
  readonly acked: Acked[] = [];
  /** `queue@offset` of everything that a group's handler was given. */
  readonly handled = new Set<string>();
  readonly #replicaIds = new Map<SimProcess, number>();
  readonly #peers: PeerObserver;
  readonly #clients: ClientObserver;
  readonly #scheduler: SimScheduler;

  constructor(scheduler: SimScheduler, net: SimNet) {
    this.#scheduler = scheduler;
    this.synced = new SyncedChecker(this.probe);
    this.#peers = new PeerObserver((message) => this.#said(message));
    this.#clients = new ClientObserver(this);
    net.watcher = this;
  }

  replica(id: number, process: SimProcess): void {
    this.#replicaIds.set(process, id);
    this.probe.watch(id, process.disk);
  }

  written(connection: number, from: SimProcess, to: SimProcess, _port: number, frames: boolean, bytes: Uint8Array): void {
    // A violation is the run's failure whatever the process under test makes of an exception.
    try {
      const [fromId, toId] = [this.#replicaIds.get(from) ?? 0, this.#replicaIds.get(to) ?? 0];
      if (!frames) this.#peers.written(connection, fromId, toId, bytes);
      else if (fromId === 0) this.#clients.toBroker(connection, bytes);
      else this.#clients.toClient(connection, fromId, bytes);
    } catch (error) {
      this.#scheduler.fail(error);
    }
  }

  /** Asked of every running replica, again and again. */
  saw(status: RaftStatus): void {
    this.progress.saw(status.replicaId, status);
    this.committed.digest(status.replicaId, status.appliedIndex, status.stateDigest);
    if (status.role === 'leader') this.leaders.leads(status.replicaId, status.term);
  }

  #said(message: Message): void {
    const { from, to, term } = message;
    if (this.#scheduler.trace.verbose) this.#scheduler.say(`r${from}`, `→ r${to} ${describe(message)}`);
    switch (message.type) {
      case 'preVoteRequest':
      case 'preVoteResponse':
        return;
      case 'voteRequest':
        this.synced.vote(from, term, from);
        return;
      case 'voteResponse':
        if (message.granted) this.synced.vote(from, term, to);
        return;
      case 'appendResponse':
        if (message.success) this.synced.appendResponse(from, term, message.lastIndex);
        return;
      case 'appendRequest':
      case 'heartbeatRequest':
        this.leaders.leads(from, term);
        this.synced.spoke(from, term, message.type);
        return;
      default:
        this.synced.spoke(from, term, message.type);
    }
  }
}

function describe(message: Message): string {
  const { type, from: _from, to: _to, ...rest } = message;
  return `${type} ${Object.entries(rest)
    .filter(([name]) => name !== 'groups')
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ')}`;
}
