import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Random } from '../io/random.ts';
import { LedgerError } from './errors.ts';
import { pack, unpack } from './msgpack.ts';
import { PeerFrameError, PeerFrameParser, PeerFrameType, PeerFrameWriter } from './peer-frame.ts';
import { int, map, nullable, type Schema, textUpTo, u16, u53 } from './schema.ts';

export const PEER_PROTOCOL_VERSION = 1;
const NONCE_BYTES = 16;
const PROOF_BYTES = 32;

/** What a replica says of itself when a link opens. */
export interface PeerHello {
  readonly clusterId: string;
  readonly brokerName: string;
  readonly replicaId: number;
  readonly incarnation: string;
  /** replica id → incarnation at formation; null while the group is not formed as far as this replica knows. */
  readonly formedWith: Readonly<Record<string, string>> | null;
  /** What its release can read; missing: the first level (src/broker/feature-level.ts). */
  readonly maxFeatureLevel?: number;
  /** Of its group's state, as far as it has applied it. */
  readonly featureLevel?: number;
  /** Of its group's membership. Missing: 0. */
  readonly epoch?: number;
  /** Where it is reached, its client port: who is behind does not know yet where a new member is. */
  readonly host?: string;
  readonly port?: number;
}

interface WireHello extends PeerHello {
  readonly minVersion: number;
  readonly maxVersion: number;
  /** Hex. */
  readonly nonce: string;
}

const name = textUpTo(256);
const incarnations: Schema<Readonly<Record<string, string>>> = (value, field) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new LedgerError('BAD_REQUEST', `field ${field}`);
  const entries = Object.entries(value);
  if (entries.length > 64) throw new LedgerError('BAD_REQUEST', `field ${field}`);
  return Object.fromEntries(entries.map(([id, incarnation]) => [id, name(incarnation, field)]));
};
const wireHello = map<WireHello>(
  {
    minVersion: u16,
    maxVersion: u16,
    clusterId: name,
    brokerName: name,
    replicaId: int(1, 0xffff),
    incarnation: name,
    formedWith: nullable(incarnations),
    nonce: textUpTo(NONCE_BYTES * 2),
    maxFeatureLevel: u16,
    featureLevel: u16,
    epoch: u53,
    host: name,
    port: u16,
  },
  ['maxFeatureLevel', 'featureLevel', 'epoch', 'host', 'port'],
);

/** The head of a control frame. */
export function encodeControl(value: unknown): Uint8Array {
  return pack(value);
}
/** @throws PeerFrameError badHead */
export function decodeControl<T>(head: Uint8Array, schema: Schema<T>): T {
  try {
    return schema(unpack(head), 'control');
  } catch (error) {
    throw new PeerFrameError('badHead', error instanceof Error ? error.message : 'malformed');
  }
}

export interface PeerChannelOptions {
  readonly role: 'dialer' | 'acceptor';
  readonly own: PeerHello;
  /** Shared by all replicas of the cluster; empty guards against mistakes only. */
  readonly secret: string;
  readonly random: Random;
  /** To the stream, in order. The bytes are not used again. */
  send(bytes: Uint8Array): void;
  /** The peer proved that it has the secret, and is of this cluster and group. Before any frame(). */
  ready(peer: PeerHello): void;
  /** As PeerFrameSink; only after ready(). */
  allocate(type: PeerFrameType, head: Uint8Array, sizeBytes: number): Uint8Array;
  frame(type: PeerFrameType, head: Uint8Array, payload: Uint8Array): void;
}

/**
 * One link between two replicas: handshake, then frames. Pure: bytes in, bytes out.
 *
 * dialer → hello(nonce); acceptor → hello(nonce), proof; dialer → proof. A proof is HMAC-SHA-256 by the secret over the role's
 * name and both hellos, so both sides answer a fresh nonce (no replay), neither can be fed its own answer (roles), and what
 * the hellos say (cluster, ids, incarnation) is proven too. The keys of the two directions are made the same way.
 */
export class PeerChannel {
  readonly #options: PeerChannelOptions;
  readonly #parser: PeerFrameParser;
  /** Writes the headers of what is sent after ready(). */
  readonly writer = new PeerFrameWriter();
  #ownHello: Uint8Array = new Uint8Array(0);
  #peer: PeerHello | null = null;
  #transcript: readonly [Uint8Array, Uint8Array] | null = null;
  #ready = false;

  constructor(options: PeerChannelOptions) {
    this.#options = options;
    this.#parser = new PeerFrameParser({
      allocate: (type, head, sizeBytes) => {
        if (!this.ready) throw new PeerFrameError('refused', 'payload before the handshake ended');
        return options.allocate(type, head, sizeBytes);
      },
      frame: (type, head, payload) => {
        if (this.ready) options.frame(type, head, payload);
        else this.#onHandshake(type, head);
      },
    });
  }

  get ready(): boolean {
    return this.#ready;
  }

  /** The stream is open. */
  open(): void {
    if (this.#options.role === 'dialer') this.#sendHello();
  }

  /** @throws PeerFrameError: close the link */
  receive(chunk: Uint8Array): void {
    this.#parser.push(chunk);
  }

  /** The link is closing: nothing more is delivered. */
  end(): void {
    this.#parser.end();
  }

  #sendHello(): void {
    const nonce = new Uint8Array(NONCE_BYTES);
    this.#options.random.fill(nonce);
    const { clusterId, brokerName, replicaId, incarnation, formedWith, maxFeatureLevel, featureLevel, epoch, host, port } =
      this.#options.own;
    const hello: WireHello = {
      minVersion: PEER_PROTOCOL_VERSION,
      maxVersion: PEER_PROTOCOL_VERSION,
      clusterId,
      brokerName,
      replicaId,
      incarnation,
      formedWith,
      nonce: Buffer.from(nonce).toString('hex'),
      ...(maxFeatureLevel === undefined ? {} : { maxFeatureLevel }),
      ...(featureLevel === undefined ? {} : { featureLevel }),
      ...(epoch === undefined ? {} : { epoch }),
      ...(host === undefined || port === undefined ? {} : { host, port }),
    };
    this.#ownHello = Uint8Array.from(pack(hello));
    this.#options.send(this.writer.encodeFrame(PeerFrameType.hello, this.#ownHello));
  }

  #onHandshake(type: PeerFrameType, head: Uint8Array): void {
    if (type === PeerFrameType.hello && this.#peer === null) {
      this.#onHello(head);
    } else if (type === PeerFrameType.proof && this.#transcript !== null) {
      this.#onProof(head);
    } else {
      throw new PeerFrameError('refused', `frame of type ${type} out of turn`);
    }
  }

  #onHello(head: Uint8Array): void {
    const peer = decodeControl(head, wireHello);
    const { own, role } = this.#options;
    if (peer.minVersion > PEER_PROTOCOL_VERSION || peer.maxVersion < PEER_PROTOCOL_VERSION) {
      throw new PeerFrameError(
        'refused',
        `peer speaks protocol ${peer.minVersion}…${peer.maxVersion}, this replica ${PEER_PROTOCOL_VERSION}`,
      );
    }
    if (peer.clusterId !== own.clusterId || peer.brokerName !== own.brokerName) {
      throw new PeerFrameError(
        'refused',
        `peer is of ${peer.clusterId}/${peer.brokerName}, this replica of ${own.clusterId}/${own.brokerName}`,
      );
    }
    if (peer.replicaId === own.replicaId) throw new PeerFrameError('refused', `peer has this replica's own id ${own.replicaId}`);
    this.#peer = {
      clusterId: peer.clusterId,
      brokerName: peer.brokerName,
      replicaId: peer.replicaId,
      incarnation: peer.incarnation,
      formedWith: peer.formedWith,
      ...(peer.maxFeatureLevel === undefined ? {} : { maxFeatureLevel: peer.maxFeatureLevel }),
      ...(peer.featureLevel === undefined ? {} : { featureLevel: peer.featureLevel }),
      ...(peer.epoch === undefined ? {} : { epoch: peer.epoch }),
      ...(peer.host === undefined || peer.port === undefined ? {} : { host: peer.host, port: peer.port }),
    };
    const peerHello = Uint8Array.from(head);
    if (role === 'acceptor') {
      this.#sendHello();
      this.#transcript = [peerHello, this.#ownHello];
      this.#sendProof();
    } else {
      this.#transcript = [this.#ownHello, peerHello];
    }
  }

  #onProof(head: Uint8Array): void {
    const { role } = this.#options;
    const expected = this.#derive(role === 'dialer' ? 'proof of acceptor' : 'proof of dialer');
    if (head.length !== PROOF_BYTES || !timingSafeEqual(head, expected)) {
      throw new PeerFrameError('refused', 'the peer does not know the peer secret');
    }
    // The dialer proves itself only to somebody who did: an unknown acceptor gets nothing to guess the secret by.
    if (role === 'dialer') this.#sendProof();
    this.writer.setKey(this.#derive(role === 'dialer' ? 'key to acceptor' : 'key to dialer'));
    this.#parser.setKey(this.#derive(role === 'dialer' ? 'key to dialer' : 'key to acceptor'));
    this.#ready = true;
    this.#options.ready(this.#peer as PeerHello);
  }

  #sendProof(): void {
    const proof = this.#derive(this.#options.role === 'dialer' ? 'proof of dialer' : 'proof of acceptor');
    this.#options.send(this.writer.encodeFrame(PeerFrameType.proof, proof));
  }

  #derive(label: string): Uint8Array {
    const [dialer, acceptor] = this.#transcript as readonly [Uint8Array, Uint8Array];
    // msgpack values delimit themselves, so no two pairs of hellos give the same bytes.
    return createHmac('sha256', this.#options.secret).update(`ledgermq ${label}\0`).update(dialer).update(acceptor).digest();
  }
}
