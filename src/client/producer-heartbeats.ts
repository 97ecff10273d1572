import type { Timer } from '../io/clock.ts';
import { Op } from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import type { Link } from './link.ts';

/** A third of the time after which a broker takes a silent producer for gone. */
const INTERVAL_MS = 10_000;
const RETRY_MS = 250;

/**
 * Tells the leaders of all broker groups that this client answers for a producer group: any of them may hold a half message of
 * a member that is gone. A new leader, or a new connection to the old one, is told at once.
 */
export class ProducerHeartbeats {
  readonly #core: ClientCore;
  readonly #group: string;
  readonly #forget: () => void;
  /** By brokerName: which connection was told. */
  readonly #told = new Map<string, { readonly link: Link; readonly generation: number; heard: boolean }>();
  #timer: Timer;
  #retry: Timer | null = null;
  #closed = false;

  constructor(core: ClientCore, group: string) {
    this.#core = core;
    this.#group = group;
    this.#forget = core.router.onChange(() => this.#look());
    this.#timer = this.#arm();
    this.#look();
  }

  /** The leader of this broker group knows us. */
  heardBy(brokerName: string): boolean {
    return this.#told.get(brokerName)?.heard === true;
  }

  /** Says goodbye: others of the group are asked from now on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#forget();
    const { clock } = this.#core.io;
    clock.clearTimer(this.#timer);
    if (this.#retry !== null) clock.clearTimer(this.#retry);
    for (const { link, generation } of this.#told.values()) {
      if (!link.ready || link.generation !== generation) continue;
      link.request(Op.producerHeartbeat, { group: this.#group, leave: true }, this.#core.requestTimeoutMs, () => undefined);
    }
  }

  #arm(): Timer {
    return this.#core.io.clock.setTimer(INTERVAL_MS, () => {
      this.#timer = this.#arm();
      this.#look(true);
    });
  }

  /** @param all those that were told, too */
  #look(all = false): void {
    const { router } = this.#core;
    for (const { brokerName } of router.brokers) {
      const link = router.leader(brokerName);
      if (link === null || !link.ready) continue;
      const told = this.#told.get(brokerName);
      const known = told !== undefined && told.link === link && told.generation === link.generation;
      if (all || !known) this.#tell(brokerName, link, known && told.heard);
    }
  }

  #tell(brokerName: string, link: Link, heard: boolean): void {
    const told = { link, generation: link.generation, heard };
    this.#told.set(brokerName, told);
    link.request(Op.producerHeartbeat, { group: this.#group }, this.#core.requestTimeoutMs, (error) => {
      told.heard = error === null;
      if (this.#closed || error === null || this.#told.get(brokerName) !== told) return;
      this.#told.delete(brokerName);
      if (error.retry === 'redirect') this.#core.router.suspect();
      // Not ready yet, or no leader any more: the others that are told again by this lose nothing.
      this.#retry ??= this.#core.io.clock.setTimer(RETRY_MS, () => {
        this.#retry = null;
        this.#look();
      });
    });
  }
}
