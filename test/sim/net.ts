import type {
  DatagramHandler,
  DatagramSocket,
  FrameConnection,
  FrameHandlers,
  Listener,
  Net,
  StreamConnection,
  StreamHandlers,
} from '../../src/io/net.ts';
import { Links } from './net-link.ts';
import { Pipe } from './net-pipe.ts';
import type { Prng } from './prng.ts';
import type { Death, SimProcess } from './process.ts';
import { EventKind, type SimScheduler } from './scheduler.ts';

/** Sees every write at the moment it leaves the code under test, before the network has a say. */
export interface NetWatcher {
  written(connection: number, from: SimProcess, to: SimProcess, port: number, frames: boolean, bytes: Uint8Array): void;
}

type Handlers = StreamHandlers & FrameHandlers;

interface PortListener {
  readonly owner: SimProcess;
  readonly life: number;
  readonly frames: boolean;
  readonly maxFrameBytes: number;
  readonly accept: (connection: never) => StreamHandlers | FrameHandlers;
}

const FIRST_FREE_PORT = 40_000;
const SYN_RETRY_US = 1_000_000;
/** Between two tries to say that a connection is over. */
const SAY_AGAIN_US = 10_000;
const LATENCY_US = 80;

/**
 * The network between simulated processes. Streams and frames are TCP's: in order, whole, without duplicates, but they stall
 * behind cut links, are reset, or stay half open when a machine vanishes.
 */
export class SimNet {
  readonly links = new Links();
  readonly #scheduler: SimScheduler;
  readonly #prng: Prng;
  readonly #listeners = new Map<string, PortListener>();
  readonly #connections = new Set<Connection>();
  readonly #sockets = new Map<string, { readonly owner: SimProcess; readonly life: number; readonly onDatagram: DatagramHandler }>();
  readonly #machinesUp = new Set<string>();
  #nextPort = FIRST_FREE_PORT;
  #nextConnection = 1;
  watcher: NetWatcher | null = null;

  constructor(scheduler: SimScheduler) {
    this.#scheduler = scheduler;
    this.#prng = scheduler.prng.fork();
  }

  of(owner: SimProcess): Net {
    return new ProcessNet(this, owner, owner.life);
  }

  up(owner: SimProcess): void {
    this.#machinesUp.add(owner.name);
  }

  /** A killed process' kernel resets its connections; a machine without power says nothing until it is back. */
  down(owner: SimProcess, death: Death): void {
    for (const [address, listener] of this.#listeners) if (listener.owner === owner) this.#listeners.delete(address);
    if (death === 'power') this.#machinesUp.delete(owner.name);
    for (const connection of this.#connections) connection.processDied(owner, death === 'kill');
  }

  /** After links were healed: what waited behind a cut moves again. */
  nudge(): void {
    for (const connection of this.#connections) connection.nudge();
  }

  /** Resets live connections between two machines, each with this probability, as a middlebox does. */
  resetBetween(a: string, b: string, probability: number): void {
    for (const connection of this.#connections) {
      if (connection.joins(a, b) && this.#prng.chance(probability)) connection.reset();
    }
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  // ---- what a process' network calls -----------------------------------------------------------------------------------

  listen(host: string, port: number, listener: PortListener): Listener {
    const bound = port === 0 ? this.#nextPort++ : port;
    const name = host === '' || host === '0.0.0.0' || host === '::' || host === '127.0.0.1' ? listener.owner.name : host;
    const address = `${name}:${bound}`;
    if (this.#listeners.has(address)) throw Object.assign(new Error(`listen ${address}: EADDRINUSE`), { code: 'EADDRINUSE' });
    this.#listeners.set(address, listener);
    return {
      port: bound,
      close: () => {
        if (this.#listeners.get(address) === listener) this.#listeners.delete(address);
        for (const connection of this.#connections) if (connection.listener === listener) connection.server?.destroy();
        return Promise.resolve();
      },
    };
  }

  dial(owner: SimProcess, host: string, port: number, frames: boolean, maxFrameBytes: number, handlers: Handlers): End {
    const target = host === '127.0.0.1' || host === 'localhost' ? owner.name : host;
    const connection = new Connection(this.#nextConnection++, this, this.#scheduler, this.#prng, port, frames);
    const end = connection.dialled(owner, handlers, maxFrameBytes);
    const giveUpUs = this.#scheduler.nowUs + this.#prng.between(3, 20) * 1_000_000;
    this.#connections.add(connection);
    this.#syn(connection, end, `${target}:${port}`, giveUpUs);
    return end;
  }

  #syn(connection: Connection, client: End, address: string, giveUpUs: number): void {
    const host = address.slice(0, address.lastIndexOf(':'));
    const delayUs = LATENCY_US + this.#prng.exponential(40) + this.links.of(client.owner.name, host).delayMs * 1000;
    this.#scheduler.schedule(null, delayUs, EventKind.net, () => {
      if (client.over || client.dead) return;
      const cut = this.links.of(client.owner.name, host).cut || this.links.of(host, client.owner.name).cut;
      const listener = this.#listeners.get(address);
      if (listener !== undefined && !cut && listener.frames === connection.frames) connection.accepted(listener);
      else if (!cut && this.#machinesUp.has(host)) client.end(true);
      else if (this.#scheduler.nowUs > giveUpUs) client.end(false);
      else this.#scheduler.schedule(null, SYN_RETRY_US, EventKind.net, () => this.#syn(connection, client, address, giveUpUs));
    });
  }

  /** A datagram is lost by links that are cut or lossy, and by receivers that do not listen. */
  datagram(owner: SimProcess, port: number, onDatagram: DatagramHandler): DatagramSocket {
    const name = `${owner.name}:${port}`;
    const socket = { owner, life: owner.life, onDatagram };
    this.#sockets.set(name, socket);
    return {
      port,
      send: (bytes, host, to) => {
        const target = host === '127.0.0.1' || host === 'localhost' ? owner.name : host;
        const link = this.links.of(owner.name, target);
        if (link.cut || this.#prng.chance(link.lossRate)) return;
        const receiver = this.#sockets.get(`${target}:${to}`);
        if (receiver === undefined || receiver.owner.life !== receiver.life) return;
        for (let copies = this.#prng.chance(link.duplicateRate) ? 2 : 1; copies > 0; copies--) {
          const copy = Uint8Array.from(bytes);
          // Each on its own way: a slow one is overtaken.
          const delayUs = LATENCY_US + this.#prng.exponential(40) + this.#prng.exponential(link.delayMs * 1000);
          this.#scheduler.schedule(receiver.owner, delayUs, EventKind.net, () => receiver.onDatagram(copy, owner.name, port));
        }
      },
      close: () => {
        if (this.#sockets.get(name) === socket) this.#sockets.delete(name);
        return Promise.resolve();
      },
    };
  }

  machineUp(name: string): boolean {
    return this.#machinesUp.has(name);
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }
}

class Connection {
  readonly id: number;
  readonly port: number;
  readonly frames: boolean;
  readonly #net: SimNet;
  readonly #scheduler: SimScheduler;
  readonly #prng: Prng;
  #client: End | null = null;
  server: End | null = null;
  listener: PortListener | null = null;

  constructor(id: number, net: SimNet, scheduler: SimScheduler, prng: Prng, port: number, frames: boolean) {
    this.id = id;
    this.#net = net;
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.port = port;
    this.frames = frames;
  }

  dialled(owner: SimProcess, handlers: Handlers, maxFrameBytes: number): End {
    this.#client = new End(this, this.#scheduler, owner, handlers, maxFrameBytes);
    return this.#client;
  }

  /** The SYN arrived: the server's side exists from now on, the client's opens one way later. */
  accepted(listener: PortListener): void {
    const client = this.#client as End;
    const server = new End(this, this.#scheduler, listener.owner, null, listener.maxFrameBytes);
    this.server = server;
    this.listener = listener;
    client.join(server, this.#pipe(client, server));
    server.join(client, this.#pipe(server, client));
    this.#scheduler.schedule(listener.owner, 0, EventKind.net, () => {
      if (server.over) return;
      server.handlers = listener.accept(server as never) as Handlers;
      server.open();
    });
    this.#scheduler.schedule(client.owner, LATENCY_US, EventKind.net, () => client.open());
  }

  #pipe(from: End, to: End): Pipe {
    return new Pipe(this.#scheduler, this.#prng, this.#net.links, {
      from: from.owner,
      to: to.owner,
      blocked: () => !to.readable,
      receiverDead: () => to.dead,
      bounce: () => {
        if (!this.#net.machineUp(to.owner.name)) return false;
        from.endLater(LATENCY_US, true);
        return true;
      },
      deliver: (bytes) => this.#deliver(to, bytes),
      drained: () => from.drained(),
    });
  }

  #deliver(to: End, bytes: Uint8Array): void {
    if (this.frames) {
      to.frame(bytes);
      return;
    }
    // TCP keeps no boundaries: some chunks arrive in two pieces.
    if (bytes.length > 1 && this.#prng.chance(0.1)) {
      const at = this.#prng.between(1, bytes.length - 1);
      to.data(bytes.subarray(0, at));
      to.data(bytes.subarray(at));
    } else to.data(bytes);
  }

  written(from: End, bytes: Uint8Array): void {
    const to = from === this.#client ? this.server : this.#client;
    if (to !== null) this.#net.watcher?.written(this.id, from.owner, to.owner, this.port, this.frames, bytes);
  }

  /** One end is over: the other hears of it when the way is free. */
  tell(from: End, reset: boolean, againUs = 0): void {
    const to = from === this.#client ? this.server : this.#client;
    if (to === null || to.over) {
      this.#net.forget(this);
      return;
    }
    const delayUs = LATENCY_US + this.#prng.exponential(100) + againUs;
    this.#scheduler.schedule(null, delayUs, EventKind.net, () => {
      if (to.over) this.#net.forget(this);
      // Said again and again while the way is cut, as TCP does; each 100 µs was half of all events of some runs.
      else if (this.#net.links.of(from.owner.name, to.owner.name).cut || !to.opened) this.tell(from, reset, SAY_AGAIN_US);
      else to.end(reset);
    });
  }

  over(): void {
    if ((this.#client?.over ?? true) && (this.server?.over ?? true)) this.#net.forget(this);
  }

  processDied(owner: SimProcess, speaks: boolean): void {
    for (const end of [this.#client, this.server]) {
      if (end === null || end.owner !== owner || end.over) continue;
      end.die();
      const other = end === this.#client ? this.server : this.#client;
      if (other === null || other.over) this.#net.forget(this);
      else if (speaks) this.tell(end, true);
      else other.peerDied();
    }
  }

  joins(a: string, b: string): boolean {
    const names = [this.#client?.owner.name, this.server?.owner.name];
    return names.includes(a) && names.includes(b);
  }

  reset(): void {
    this.#client?.endLater(this.#prng.between(0, 50_000), true);
    this.server?.endLater(this.#prng.between(0, 50_000), true);
  }

  nudge(): void {
    this.#client?.nudge();
    this.server?.nudge();
  }

  closeReset(): boolean {
    return this.#prng.chance(0.5);
  }
}

/** One side of a connection, in the shape of both public interfaces. */
class End implements StreamConnection, FrameConnection {
  readonly owner: SimProcess;
  readonly #life: number;
  readonly #connection: Connection;
  readonly #scheduler: SimScheduler;
  readonly #maxFrameBytes: number;
  handlers: Handlers | null;
  #out: Pipe | null = null;
  #peer: End | null = null;
  /** Written before the connection was open. */
  #early: { readonly bytes: Uint8Array; readonly onFlushed: (() => void) | undefined }[] = [];
  #reading = true;
  #closing = false;
  opened = false;
  over = false;
  dead = false;

  constructor(connection: Connection, scheduler: SimScheduler, owner: SimProcess, handlers: Handlers | null, maxFrameBytes: number) {
    this.#connection = connection;
    this.#scheduler = scheduler;
    this.owner = owner;
    this.#life = owner.life;
    this.handlers = handlers;
    this.#maxFrameBytes = maxFrameBytes;
  }

  join(peer: End, out: Pipe): void {
    this.#peer = peer;
    this.#out = out;
  }

  open(): void {
    if (this.over) return;
    this.opened = true;
    this.handlers?.onOpen?.(this);
    for (const { bytes, onFlushed } of this.#early) this.#out?.write(bytes, onFlushed);
    this.#early = [];
    this.#peer?.nudge();
    if (this.#closing) this.drained();
  }

  get remoteAddress(): string {
    return this.#peer === null ? '' : `${this.#peer.owner.name}:${this.#connection.port}`;
  }

  get bufferedBytes(): number {
    let early = 0;
    for (const { bytes } of this.#early) early += bytes.length;
    return early + (this.#out?.bufferedBytes ?? 0);
  }

  write(bytes: Uint8Array, onFlushed?: () => void): void {
    if (this.over || this.#closing || this.owner.life !== this.#life) return;
    this.#connection.written(this, bytes);
    if (this.#out === null || !this.opened) this.#early.push({ bytes, onFlushed });
    else this.#out.write(bytes, onFlushed);
  }

  send(frame: Uint8Array, onFlushed?: () => void): void {
    this.write(frame, onFlushed);
  }

  pause(): void {
    this.#reading = false;
  }

  resume(): void {
    this.#reading = true;
    this.#peer?.nudge();
  }

  close(): void {
    if (this.over || this.#closing) return;
    this.#closing = true;
    if (this.opened) this.drained();
  }

  destroy(): void {
    if (this.over || this.owner.life !== this.#life) return;
    this.#connection.tell(this, this.#connection.closeReset());
    this.end(false);
  }

  // ---- what the connection calls ------------------------------------------------------------------------------------------

  get readable(): boolean {
    return this.opened && this.#reading && !this.over;
  }

  data(bytes: Uint8Array): void {
    if (this.over) return;
    this.handlers?.onData(this, bytes);
    // Valid during the call only: who kept a view finds this.
    bytes.fill(0xdd);
  }

  frame(bytes: Uint8Array): void {
    if (this.over) return;
    if (bytes.length > this.#maxFrameBytes) this.destroy();
    else this.handlers?.onFrame(this, bytes);
  }

  nudge(): void {
    this.#out?.nudge();
  }

  peerDied(): void {
    this.#out?.receiverDied();
  }

  /** All that was written has arrived: a close() in progress is done. */
  drained(): void {
    if (this.#closing && !this.over && this.opened && (this.#out?.idle ?? true))
      this.#scheduler.schedule(this.owner, 0, EventKind.net, () => this.#closed());
  }

  #closed(): void {
    if (this.over) return;
    this.#connection.tell(this, false);
    this.end(false);
  }

  endLater(delayUs: number, reset: boolean): void {
    this.#scheduler.schedule(null, delayUs, EventKind.net, () => this.end(reset));
  }

  /** No callback but onClose after this. */
  end(reset: boolean): void {
    if (this.over) return;
    this.over = true;
    this.#shut();
    if (this.dead) return;
    this.#scheduler.schedule(this.owner, 0, EventKind.net, () => {
      if (this.owner.life === this.#life) this.handlers?.onClose(this, reset);
    });
  }

  die(): void {
    this.dead = true;
    this.#shut();
  }

  #shut(): void {
    if (this.#out !== null) this.#out.closed = true;
    this.#connection.over();
  }
}

class ProcessNet implements Net {
  readonly #net: SimNet;
  readonly #owner: SimProcess;
  readonly #life: number;

  constructor(net: SimNet, owner: SimProcess, life: number) {
    this.#net = net;
    this.#owner = owner;
    this.#life = life;
  }

  listenDatagrams(_host: string, port: number, onDatagram: DatagramHandler): Promise<DatagramSocket> {
    return Promise.resolve(this.#net.datagram(this.#owner, port, onDatagram));
  }

  listenStream(host: string, port: number, accept: (connection: StreamConnection) => StreamHandlers): Promise<Listener> {
    return this.#listen(host, port, false, Number.POSITIVE_INFINITY, accept);
  }

  dialStream(host: string, port: number, handlers: StreamHandlers): StreamConnection {
    return this.#net.dial(this.#owner, host, port, false, Number.POSITIVE_INFINITY, handlers as Handlers);
  }

  listenFrames(
    host: string,
    port: number,
    maxFrameBytes: number,
    accept: (connection: FrameConnection) => FrameHandlers,
  ): Promise<Listener> {
    return this.#listen(host, port, true, maxFrameBytes, accept);
  }

  dialFrames(url: string, maxFrameBytes: number, handlers: FrameHandlers): FrameConnection {
    const address = new URL(url);
    return this.#net.dial(this.#owner, address.hostname, Number(address.port), true, maxFrameBytes, handlers as Handlers);
  }

  #listen(
    host: string,
    port: number,
    frames: boolean,
    maxFrameBytes: number,
    accept: (connection: never) => StreamHandlers | FrameHandlers,
  ): Promise<Listener> {
    try {
      return Promise.resolve(this.#net.listen(host, port, { owner: this.#owner, life: this.#life, frames, maxFrameBytes, accept }));
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }
}
