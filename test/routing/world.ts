import type { Clock, Timer } from '../../src/io/clock.ts';
import { type DatagramHandler, type DatagramSocket, MAX_DATAGRAM_BYTES } from '../../src/io/net.ts';
import type { Random } from '../../src/io/random.ts';
import { GossipRouting, type GossipRoutingOptions } from '../../src/routing/gossip-routing.ts';
import type { BrokerRecord, HostPort } from '../../src/routing/records.ts';

const LATENCY_MS = 0.3;
const WALL_EPOCH_MS = 1_767_225_600_000;
export const PORT = 7461;

interface Event {
  atMs: number;
  order: number;
  run: (() => void) | null;
  readonly node: Node;
  readonly life: number;
}

class SeededRandom implements Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** Mulberry32. */
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
  unit(): number {
    return this.u32() / 2 ** 32;
  }
  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.u32() & 0xff;
  }
}

/** Brokers over simulated time and datagrams: everything is a function of the seed. */
export class World {
  readonly random: Random;
  readonly nodes: Node[] = [];
  nowMs = 0;
  loss = 0;
  /** Datagrams and their bytes so far. */
  datagrams = 0;
  bytes = 0;
  largest = 0;
  /** Whether a datagram gets through, besides loss. */
  passes: (from: Node, to: Node) => boolean = () => true;
  readonly #heap: Event[] = [];
  #order = 0;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
  }

  schedule(node: Node, delayMs: number, run: () => void): Event {
    const event: Event = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, run, node, life: node.life };
    this.push(event);
    return event;
  }

  push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Event;
      if (!before(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  /** Runs until then, or until `done` says so. @returns whether it did */
  run(forMs: number, done: () => boolean = () => false): boolean {
    const untilMs = this.nowMs + forMs;
    for (let event = this.#heap[0]; event !== undefined && event.atMs <= untilMs; event = this.#heap[0]) {
      this.#pop();
      const { node, run } = event;
      if (run === null || event.life !== node.life) continue;
      this.nowMs = event.atMs;
      if (node.stalledUntilMs > event.atMs) {
        event.atMs = node.stalledUntilMs;
        this.push(event);
        continue;
      }
      event.run = null;
      run();
      if (done()) return true;
    }
    this.nowMs = untilMs;
    return done();
  }

  /** As run(), but `done` is asked every 10 ms only: what it looks at may be dear. */
  until(forMs: number, done: () => boolean): boolean {
    const untilMs = this.nowMs + forMs;
    while (this.nowMs < untilMs) {
      if (done()) return true;
      this.run(Math.min(10, untilMs - this.nowMs));
    }
    return done();
  }

  transmit(from: Node, bytes: Uint8Array, host: string, port: number): void {
    if (bytes.length > MAX_DATAGRAM_BYTES) throw new Error(`a datagram of ${bytes.length} bytes`);
    this.datagrams++;
    this.bytes += bytes.length;
    this.largest = Math.max(this.largest, bytes.length);
    const to = this.nodes.find((node) => (node.host === host || node.name === host) && node.up);
    if (to === undefined || to === from || !this.passes(from, to)) return;
    if (this.loss > 0 && this.random.unit() < this.loss) return;
    const copy = Uint8Array.from(bytes);
    const fromHost = from.host;
    this.schedule(to, LATENCY_MS * (0.5 + this.random.unit()), () => to.onDatagram?.(copy, fromHost, port));
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Event;
    const size = heap.length;
    if (size === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!before(heap[child] as Event, last)) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

export interface NodeOptions {
  readonly brokerName: string;
  readonly replicaId: number;
  readonly seeds: readonly HostPort[];
  readonly secret?: string;
}

/** One broker: a process on a machine of its own, whose name stays and whose address may change. */
export class Node implements Clock {
  readonly name: string;
  readonly options: NodeOptions;
  readonly events: { readonly name: string; readonly fields: Readonly<Record<string, string | number>> }[] = [];
  readonly #world: World;
  host: string;
  life = 0;
  up = false;
  generation = 0;
  stalledUntilMs = 0;
  /** Its clocks are ahead of the world's by this. */
  aheadMs = 0;
  onDatagram: DatagramHandler | null = null;
  #routing: GossipRouting | null = null;

  constructor(world: World, options: NodeOptions) {
    this.#world = world;
    this.options = options;
    this.name = `${options.brokerName}-${options.replicaId}`;
    this.host = this.name;
    world.nodes.push(this);
  }

  get routing(): GossipRouting {
    if (this.#routing === null) throw new Error(`${this.name} was never started`);
    return this.#routing;
  }

  start(change: Partial<GossipRoutingOptions> = {}): GossipRouting {
    this.life++;
    this.up = true;
    this.generation++;
    this.stalledUntilMs = 0;
    const world = this.#world;
    const { brokerName, replicaId, seeds, secret = 'secret' } = this.options;
    const own: Omit<BrokerRecord, 'version'> = {
      brokerName,
      replicaId,
      incarnation: `${this.name}-directory`,
      endpoint: `ws://${this.name}:7460`,
      admin: `http://${this.name}:7462`,
      address: { host: this.name, port: PORT },
      machine: this.name,
      perm: 6,
      role: 'follower',
      term: 1,
      featureLevel: 2,
      belowReserve: false,
      lagging: false,
      priority: 0,
    };
    const routing = new GossipRouting({
      clock: this,
      random: world.random,
      clusterId: 'test',
      secret,
      own,
      generation: this.generation,
      onGeneration: (generation) => {
        this.generation = generation;
      },
      contacts: () => seeds,
      replicas: [{ replicaId, endpoint: own.endpoint }],
      onEvent: (name, fields) => this.events.push({ name, fields }),
      ...change,
    });
    this.#routing = routing;
    this.onDatagram = (bytes, host, port) => routing.gossip.receive(bytes, host, port);
    const socket: DatagramSocket = {
      port: PORT,
      send: (bytes, host, port) => world.transmit(this, bytes, host, port),
      close: () => Promise.resolve(),
    };
    routing.start(socket);
    return routing;
  }

  /** kill -9 */
  crash(): void {
    this.life++;
    this.up = false;
    this.onDatagram = null;
  }

  /** Its event loop stands still; what arrives waits. */
  stall(forMs: number): void {
    this.stalledUntilMs = this.#world.nowMs + forMs;
  }

  /** How it sees another one: null = not at all. */
  sees(other: Node): string | null {
    const key = `${other.options.brokerName}/${other.options.replicaId}`;
    return this.routing.gossip.members.get(key)?.state ?? null;
  }

  wallMs(): number {
    return WALL_EPOCH_MS + Math.floor(this.#world.nowMs + this.aheadMs);
  }
  monotonicMs(): number {
    return this.#world.nowMs + this.aheadMs;
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    return this.#world.schedule(this, delayMs, callback);
  }
  clearTimer(timer: Timer): void {
    (timer as Event).run = null;
  }
  defer(callback: () => void): void {
    this.#world.schedule(this, 0, callback);
  }
}

/** Groups of three; the first three brokers are everybody's seeds. */
export function cluster(world: World, brokers: number): Node[] {
  const places = Array.from({ length: brokers }, (_, at) => ({
    brokerName: `g${String(Math.floor(at / 3)).padStart(2, '0')}`,
    replicaId: (at % 3) + 1,
  }));
  const seeds = places.slice(0, 3).map(({ brokerName, replicaId }) => ({ host: `${brokerName}-${replicaId}`, port: PORT }));
  return places.map((place) => new Node(world, { ...place, seeds }));
}

/** All started, and all know all. @returns the time that took, ms */
export function settle(world: World, nodes: readonly Node[], withinMs = 30_000): number {
  for (const node of nodes) node.start();
  const startMs = world.nowMs;
  const full = (): boolean => nodes.every((node) => node.routing.gossip.liveCount === nodes.length);
  if (!world.until(withinMs, full)) throw new Error(`not all know all after ${withinMs} ms`);
  return world.nowMs - startMs;
}

/** The value below which a share of `p` lies. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)] as number;
}
