import type { Clock, Timer } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import { listSetAside, removeSetAside } from '../replica/set-aside.ts';

/** Between two looks at whether there is still room. */
const CHECK_MS = 1_000;

export interface FormerContentsPorts {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly dataDirectory: string;
  /** The disk has less room than the reserve. */
  isShort(): boolean;
  /** Somebody leads the group that this replica is in. */
  isLed(): boolean;
  onEvent(name: string, fields: Readonly<Record<string, string | number>>): void;
  /** A disk that cannot remove a file is not relied upon. */
  failed(error: unknown): void;
}

/**
 * What was set aside is kept while there is room (decision 0013): below the reserve it goes, one a look. Else a replica that began anew,
 * and holds its log twice, could fill its disk, and a follower on a full disk hears of no cut that would free it.
 */
export class FormerContents {
  readonly #ports: FormerContentsPorts;
  #timer: Timer | null = null;
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(ports: FormerContentsPorts) {
    this.#ports = ports;
  }

  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#ports.clock.setTimer(CHECK_MS, () => {
      this.#work = this.#look().then(
        () => this.start(),
        (error: unknown) => {
          if (!this.#stopped) this.#ports.failed(error);
        },
      );
    });
  }

  /** Waits for the removal under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) this.#ports.clock.clearTimer(this.#timer);
    await this.#work;
  }

  async #look(): Promise<void> {
    const { disk, dataDirectory, onEvent } = this.#ports;
    if (!this.#ports.isShort() || !this.#ports.isLed()) return;
    const [incarnation] = await listSetAside(disk, dataDirectory);
    if (incarnation === undefined || this.#stopped) return;
    await removeSetAside(disk, dataDirectory, incarnation);
    onEvent('former contents removed', { incarnation });
  }
}
