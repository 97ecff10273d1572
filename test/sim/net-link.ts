/** State of the way from one machine to another; each direction has its own. */
export interface LinkFaults {
  /** Nothing arrives (packets are lost); TCP tries again, so it arrives after the cut, or the connection is reset. */
  cut: boolean;
  /** Mean of the added one-way delay, ms. */
  delayMs: number;
  /** Packets lost: in a stream that shows as a pause of a retransmission timeout, everything behind it waits. */
  lossRate: number;
  /** Datagrams that arrive twice; streams hide it. */
  duplicateRate: number;
}

const HEALTHY: LinkFaults = { cut: false, delayMs: 0, lossRate: 0, duplicateRate: 0 };

/** All directed links between the machines of a world, by name. Missing ones are healthy. */
export class Links {
  readonly #faults = new Map<string, LinkFaults>();

  of(from: string, to: string): LinkFaults {
    return this.#faults.get(`${from}>${to}`) ?? HEALTHY;
  }

  set(from: string, to: string, change: Partial<LinkFaults>): void {
    this.#faults.set(`${from}>${to}`, { ...this.of(from, to), ...change });
  }

  heal(): void {
    this.#faults.clear();
  }
}
