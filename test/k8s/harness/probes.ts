import type { Prober } from '../../jepsen-lite/cluster/prober.ts';
import { type Container, type Probe, portNumber } from '../objects.ts';

/** Kubernetes' defaults. */
const PERIOD_S = 10;
const TIMEOUT_S = 1;
const SUCCESSES = 1;
const FAILURES = 3;

export interface ProbeEvents {
  /** The verdict changed, or was given for the first time. */
  changed(passes: boolean): void;
}

/** One probe of one container, asked at its period until it is stopped; its verdict changes at the thresholds. */
export class ProbeLoop {
  readonly #prober: Prober;
  readonly #url: string;
  readonly #probe: Probe;
  readonly #events: ProbeEvents;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;
  #inRow = 0;
  #last: boolean | null = null;
  #verdict: boolean | null = null;

  constructor(prober: Prober, address: string, container: Container, probe: Probe, events: ProbeEvents) {
    this.#prober = prober;
    this.#url = `http://${address}:${portNumber(container, probe.httpGet.port)}${probe.httpGet.path}`;
    this.#probe = probe;
    this.#events = events;
    this.#next(probe.initialDelaySeconds ?? 0);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #next(afterS: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.#ask();
    }, afterS * 1000);
  }

  async #ask(): Promise<void> {
    const { timeoutSeconds = TIMEOUT_S, periodSeconds = PERIOD_S, successThreshold = SUCCESSES, failureThreshold = FAILURES } = this.#probe;
    const startedMs = performance.now();
    const { status } = await this.#prober.ask(this.#url, timeoutSeconds * 1000);
    if (this.#stopped) return;
    const passes = status >= 200 && status < 400;
    this.#inRow = passes === this.#last ? this.#inRow + 1 : 1;
    this.#last = passes;
    const enough = this.#inRow >= (passes ? successThreshold : failureThreshold);
    if (enough && passes !== this.#verdict) {
      this.#verdict = passes;
      this.#events.changed(passes);
    }
    this.#next(Math.max(0, periodSeconds - (performance.now() - startedMs) / 1000));
  }
}
