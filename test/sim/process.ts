import type { Clock, Timer } from '../../src/io/clock.ts';
import type { Disk } from '../../src/io/disk.ts';
import type { Io } from '../../src/io/io.ts';
import type { Net } from '../../src/io/net.ts';
import type { Random } from '../../src/io/random.ts';
import type { SimDisk } from './disk.ts';
import type { SimNet } from './net.ts';
import type { Prng } from './prng.ts';
import { EventKind, type Owner, type SimEvent, type SimScheduler } from './scheduler.ts';

/** 2026-01-01: where simulated wall clocks start before their skew. */
const WALL_EPOCH_MS = 1_767_225_600_000;

/** How a process ends. `power`: the machine goes down with it, and with it everything that was not synced. */
export type Death = 'kill' | 'power';

/** A simulated process on a machine of its own: its events, clock, randomness, disk and network. */
export class SimProcess implements Owner {
  readonly id: number;
  /** Also its host name in the simulated network. */
  readonly name: string;
  readonly #scheduler: SimScheduler;
  readonly #net: SimNet;
  #disk: SimDisk;
  readonly #seeds: Prng;
  readonly #onFailed: (process: SimProcess, error: unknown) => void;
  life = 0;
  paused = false;
  alive = false;
  #held: SimEvent[] = [];
  #clock: SimClock | null = null;

  constructor(
    id: number,
    name: string,
    scheduler: SimScheduler,
    net: SimNet,
    disk: SimDisk,
    onFailed: (process: SimProcess, error: unknown) => void,
  ) {
    this.id = id;
    this.name = name;
    this.#scheduler = scheduler;
    this.#net = net;
    this.#disk = disk;
    this.#seeds = scheduler.prng.fork();
    this.#onFailed = onFailed;
  }

  get disk(): SimDisk {
    return this.#disk;
  }

  /** The machine is down and gets a new, empty disk. */
  replaceDisk(disk: SimDisk): void {
    this.#disk = disk;
  }

  /** null while it is down. */
  get clock(): SimClock | null {
    return this.#clock;
  }

  /** Starts a new life; `main` runs as its first event. */
  start(main: (io: Io) => void): Io {
    this.life++;
    this.alive = true;
    this.paused = false;
    this.#held = [];
    const clock = new SimClock(this.#scheduler, this, this.#clock);
    this.#clock = clock;
    this.#net.up(this);
    const io: Io = {
      clock,
      random: new SimRandom(this.#seeds.fork()),
      disk: this.#disk.mount(this) as Disk,
      net: this.#net.of(this) as Net,
    };
    this.#scheduler.schedule(this, 0, EventKind.world, () => main(io));
    return io;
  }

  kill(death: Death): void {
    if (!this.alive) return;
    this.life++;
    this.alive = false;
    this.paused = false;
    this.#held = [];
    this.#disk.crash(death);
    this.#net.down(this, death);
  }

  /** SIGSTOP: nothing of it runs, the world goes on. */
  pause(): void {
    if (this.alive) this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    const held = this.#held;
    this.#held = [];
    this.#scheduler.replay(held);
  }

  hold(event: SimEvent): void {
    this.#held.push(event);
  }

  failed(error: unknown): void {
    this.#onFailed(this, error);
  }
}

/** A machine's clocks: the wall clock may be wrong and jump; the monotonic one runs a little fast or slow, and never back. */
export class SimClock implements Clock {
  readonly #scheduler: SimScheduler;
  readonly #owner: SimProcess;
  readonly #startUs: number;
  #wallSkewMs: number;
  /** Since when, and by how many ms each ms, the wall clock runs away. */
  #drift: { readonly sinceUs: number; readonly rate: number };
  /** Simulated ms per true ms, near 1. */
  readonly rate: number;

  constructor(scheduler: SimScheduler, owner: SimProcess, former: SimClock | null) {
    this.#scheduler = scheduler;
    this.#owner = owner;
    this.#startUs = scheduler.nowUs;
    this.#wallSkewMs = former?.wallSkewMs ?? 0;
    this.#drift = { sinceUs: scheduler.nowUs, rate: former?.driftRate ?? 0 };
    this.rate = former?.rate ?? 1 + (scheduler.prng.unit() - 0.5) * 0.002;
  }

  get wallSkewMs(): number {
    return this.#wallSkewMs + Math.round(((this.#scheduler.nowUs - this.#drift.sinceUs) / 1000) * this.#drift.rate);
  }

  get driftRate(): number {
    return this.#drift.rate;
  }

  /** Sets the wall clock wrong by this much. */
  jump(skewMs: number): void {
    this.#wallSkewMs = Math.round(skewMs);
    this.#drift = { ...this.#drift, sinceUs: this.#scheduler.nowUs };
  }

  /** From now on the wall clock gains (or loses) so many ms each ms, until it is set. */
  drift(rate: number): void {
    this.#wallSkewMs = this.wallSkewMs;
    this.#drift = { sinceUs: this.#scheduler.nowUs, rate };
  }

  wallMs(): number {
    return WALL_EPOCH_MS + Math.floor(this.#scheduler.nowUs / 1000) + this.wallSkewMs;
  }

  monotonicMs(): number {
    return ((this.#scheduler.nowUs - this.#startUs) / 1000) * this.rate;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    return this.#scheduler.schedule(this.#owner, Math.ceil((Math.max(0, delayMs) * 1000) / this.rate), EventKind.timer, callback);
  }

  clearTimer(timer: Timer): void {
    (timer as SimEvent).run = null;
  }

  defer(callback: () => void): void {
    this.#scheduler.schedule(this.#owner, 0, EventKind.defer, callback);
  }
}

class SimRandom implements Random {
  readonly #prng: Prng;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  u32(): number {
    return this.#prng.u32();
  }

  unit(): number {
    return this.#prng.unit();
  }

  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.#prng.u32() & 0xff;
  }
}
