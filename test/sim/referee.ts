import { FabricatedChecker } from './checkers/fabricated.ts';
import type { Acked } from './checkers/lost.ts';
import { OffsetBackChecker } from './checkers/offset-back.ts';
import { OwnersChecker } from './checkers/owners.ts';
import { ReadersChecker } from './checkers/readers.ts';
import { TopicsChecker } from './checkers/topics.ts';
import { ClientObserver } from './client-observer.ts';
import { GroupReferee } from './group-referee.ts';
import type { NetWatcher, SimNet } from './net.ts';
import type { SimProcess } from './process.ts';
import type { SimScheduler } from './scheduler.ts';

/** All checkers of a run and what feeds them: those of single groups, and those that look over all groups. */
export class Referee implements NetWatcher {
  readonly readers = new ReadersChecker();
  readonly fabricated = new FabricatedChecker();
  readonly offsets = new OffsetBackChecker();
  readonly owners = new OwnersChecker();
  readonly topics = new TopicsChecker();
  /** What clients were told is stored. */
  readonly acked: Acked[] = [];
  /** `queue@offset` of everything that a consumer group's handler was given. */
  readonly handled = new Set<string>();
  readonly #groups: GroupReferee[] = [];
  readonly #clients: ClientObserver;
  readonly #scheduler: SimScheduler;

  constructor(scheduler: SimScheduler, net: SimNet) {
    this.#scheduler = scheduler;
    this.#clients = new ClientObserver(this);
    net.watcher = this;
  }

  group(brokerName: string): GroupReferee {
    const group = new GroupReferee(brokerName, this.#scheduler);
    this.#groups.push(group);
    return group;
  }

  written(connection: number, from: SimProcess, to: SimProcess, _port: number, frames: boolean, bytes: Uint8Array): void {
    // A violation is the run's failure whatever the process under test makes of an exception.
    try {
      const [sender, receiver] = [this.#groupOf(from), this.#groupOf(to)];
      if (!frames) sender?.peerWritten(connection, from, to, bytes);
      else if (sender !== undefined) this.#clients.toClient(connection, sender, sender.idOf(from), bytes);
      else if (receiver !== undefined) this.#clients.toBroker(connection, receiver.brokerName, bytes);
    } catch (error) {
      this.#scheduler.fail(error);
    }
  }

  #groupOf(process: SimProcess): GroupReferee | undefined {
    return this.#groups.find((group) => group.idOf(process) !== 0);
  }
}
