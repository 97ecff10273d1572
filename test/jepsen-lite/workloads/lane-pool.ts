import type { Lane, Outcome } from './lane.ts';
import type { Stage } from './workload.ts';

/** Lanes for what runs side by side and is not known beforehand: one that is free is used again. */
export class LanePool {
  readonly #stage: Stage;
  readonly #firstLane: number;
  readonly #free: Lane[] = [];
  #made = 0;

  /** @param firstLane its lanes are numbered from here on */
  constructor(stage: Stage, firstLane: number) {
    this.#stage = stage;
    this.#firstLane = firstLane;
  }

  async use(work: (lane: Lane) => Promise<Outcome>): Promise<Outcome> {
    const lane = this.#free.pop() ?? this.#stage.lane(this.#firstLane + this.#made++);
    try {
      return await work(lane);
    } finally {
      this.#free.push(lane);
    }
  }
}
