import type { Clock } from '../io/clock.ts';
import type { Item } from './anti-entropy.ts';
import type { ByteReader, ByteWriter } from './byte-cursor.ts';
import type { DatagramSender } from './datagram.ts';
import type { FailureDetector } from './failure-detector.ts';
import type { MemberRow, MemberTable } from './member-table.ts';
import type { OwnRecord } from './own-record.ts';
import { ItemKind } from './record-codec.ts';
import { type BrokerKey, brokerKeyOf, type HostPort } from './records.ts';

/** Probes that this broker passes on for others, at once; the oldest is dropped beyond. */
const MAX_RELAYS = 256;
const RELAY_MS = 2_000;
const MAX_NAME_BYTES = 255;
/** In a ping: whoever reads it. */
const ANYBODY: BrokerKey = { brokerName: '', replicaId: 0 };

export interface ProbingPorts {
  begin(type: 'ping' | 'ack' | 'pingRequest'): ByteWriter;
  /** `about`: what the receiver should know first; rumors fill the rest. */
  send(datagram: ByteWriter, to: HostPort, about: readonly (Item | MemberRow)[]): void;
}

export interface Ping {
  readonly probe: number;
  readonly target: BrokerKey;
  /** Version of the target's record that the sender has; 0 = none. */
  readonly knownVersion: number;
}

interface Relay {
  readonly probe: number;
  readonly to: HostPort;
  readonly key: string;
  readonly untilMs: number;
}

/** Pings, their answers, and pings on behalf of others. */
export class Probing {
  readonly #clock: Clock;
  readonly #members: MemberTable;
  readonly #own: OwnRecord;
  readonly #detector: FailureDetector;
  readonly #ports: ProbingPorts;
  readonly #relays = new Map<number, Relay>();
  #nextRelay = 0;

  constructor(clock: Clock, members: MemberTable, own: OwnRecord, detector: FailureDetector, ports: ProbingPorts) {
    this.#clock = clock;
    this.#members = members;
    this.#own = own;
    this.#detector = detector;
    this.#ports = ports;
  }

  /** Where its last datagram came from and where its record says that it is, by turns. A suspect is told that it is one. */
  ping(row: MemberRow, probe: number, attempt: number): void {
    const to = attempt % 2 === 1 ? row.record.address : (row.heardFrom ?? row.record.address);
    this.#ping(probe, row.record, row.record.version, to, row.state === 'alive' ? [] : [row]);
  }

  pingThrough(mediator: MemberRow, row: MemberRow, probe: number): void {
    const datagram = this.#ports.begin('pingRequest');
    datagram.u32(probe);
    writeKey(datagram, row.record);
    datagram.text(row.record.address.host);
    datagram.u16(row.record.address.port);
    this.#ports.send(datagram, mediator.heardFrom ?? mediator.record.address, row.state === 'alive' ? [] : [row]);
  }

  /** To an address of which it is not known who is there. */
  greet(to: HostPort): void {
    this.#ping(0, ANYBODY, 0, to, [{ kind: ItemKind.broker, bytes: this.#own.bytes }]);
  }

  #ping(probe: number, target: BrokerKey, knownVersion: number, to: HostPort, about: readonly (Item | MemberRow)[]): void {
    const datagram = this.#ports.begin('ping');
    datagram.u32(probe);
    writeKey(datagram, target);
    datagram.u53(knownVersion);
    this.#ports.send(datagram, to, about);
  }

  readPing(body: ByteReader): Ping {
    const probe = body.u32();
    const target = readKey(body);
    return { probe, target, knownVersion: body.u53() };
  }

  /** After the ping's items were taken: when one of them is a suspicion, the answer carries the refutation. */
  onPing({ probe, target, knownVersion }: Ping, sender: DatagramSender, from: HostPort): void {
    const own = this.#own;
    // Addresses pass from one broker to another: an answer in the name of somebody else would keep the dead alive.
    if (target.brokerName !== '' && brokerKeyOf(target) !== own.key) return;
    const about: (Item | MemberRow)[] = [];
    if (knownVersion < own.record.version) about.push({ kind: ItemKind.broker, bytes: own.bytes });
    const row = this.#members.find(sender);
    if (row !== undefined && row.state !== 'alive' && row.stateVersion >= sender.version) about.push(row);
    this.#ack(probe, own.record, from, about);
  }

  #ack(probe: number, responder: BrokerKey, to: HostPort, about: readonly (Item | MemberRow)[]): void {
    const datagram = this.#ports.begin('ack');
    datagram.u32(probe);
    writeKey(datagram, responder);
    this.#ports.send(datagram, to, about);
  }

  onAck(body: ByteReader, _from: HostPort): void {
    const probe = body.u32();
    const responder = readKey(body);
    const key = brokerKeyOf(responder);
    if (this.#detector.answered(probe, key)) return;
    const relay = this.#relays.get(probe);
    if (relay === undefined || relay.key !== key) return;
    this.#relays.delete(probe);
    if (relay.untilMs >= this.#clock.monotonicMs()) this.#ack(relay.probe, responder, relay.to, []);
  }

  onPingRequest(body: ByteReader, from: HostPort): void {
    const probe = body.u32();
    const target = readKey(body);
    const said = { host: body.text(MAX_NAME_BYTES), port: body.u16() };
    const key = brokerKeyOf(target);
    const row = this.#members.get(key);
    if (this.#relays.size >= MAX_RELAYS) this.#relays.delete(this.#relays.keys().next().value as number);
    // The detector's probes count up from a random number; a clash would cost one answer.
    const id = this.#nextRelay++ >>> 0;
    this.#relays.set(id, { probe, to: from, key, untilMs: this.#clock.monotonicMs() + RELAY_MS });
    const about = row === undefined || row.state === 'alive' ? [] : [row];
    this.#ping(id, target, row?.record.version ?? 0, row?.heardFrom ?? said, about);
  }
}

function writeKey(to: ByteWriter, { brokerName, replicaId }: BrokerKey): void {
  to.text(brokerName);
  to.u16(replicaId);
}

function readKey(from: ByteReader): BrokerKey {
  const brokerName = from.text(MAX_NAME_BYTES);
  return { brokerName, replicaId: from.u16() };
}
