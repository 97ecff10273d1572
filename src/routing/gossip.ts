import { equalBytes } from '../base/bytes.ts';
import type { Timer } from '../io/clock.ts';
import type { DatagramSocket } from '../io/net.ts';
import { AntiEntropy, type Item } from './anti-entropy.ts';
import { type ByteReader, type ByteWriter, MalformedBytes } from './byte-cursor.ts';
import { Contacts } from './contacts.ts';
import { DatagramCodec, type DatagramSender, DatagramType, type Opened } from './datagram.ts';
import { FailureDetector, shuffle } from './failure-detector.ts';
import { Fingerprints } from './fingerprints.ts';
import { piecesOf, Reassembly } from './fragments.ts';
import { type GossipCounts, newCounts } from './gossip-counts.ts';
import type { GossipOptions } from './gossip-options.ts';
import type { Evidence, OwnBrokerChange } from './gossip-port.ts';
import { MAX_MEMBERS, type MemberRow, MemberTable } from './member-table.ts';
import { OwnRecord } from './own-record.ts';
import { Probing } from './probing.ts';
import { decodeBroker, decodeGroup, decodeState, encodeState, ItemKind, readBrokerHead, readTopicHead } from './record-codec.ts';
import { type Merged, RecordTable } from './record-table.ts';
import type { AppliedTopic, BrokerKey, GossipAlarm, GroupRecord, HostPort, MemberState } from './records.ts';
import { brokerKeyOf } from './records.ts';
import { Retirement } from './retirement.ts';
import { Rumors, retransmitLimit } from './rumors.ts';

/** While there is news, each broker tells it to so many others, so often. */
const GOSSIP_FANOUT = 3;
const GOSSIP_INTERVAL_MS = 100;
/** When hundreds start at once, what one says next must not wait behind what all have said. */
const MAX_GOSSIP_DATAGRAMS = 4;
const RUMORS_PER_DATAGRAM = 6;
/** F03: at the latest. These ride on probes: whoever has missed nothing learns nothing. */
const REFRESH_INTERVAL_MS = 30_000;
const SYNC_INTERVAL_MS = 5_000;
/** After an exchange that brought something there may be more; and what was lost on the way is not waited for. */
const QUICK_SYNC_INTERVAL_MS = 250;
/** Quick exchanges that bring nothing, until one finds both sides equal: some differences stay (one side remembers the dead). */
const MAX_QUICK_SYNCS = 6;
/** After a sleep the socket's buffer holds what was said before it: not the word of somebody who is there. */
const STALE_DATAGRAMS_MS = 200;
/** Accusers of one suspect that are passed on: more make a suspicion no more certain. */
const MAX_TOLD_ACCUSERS = 4;

/**
 * One broker's gossip: SWIM's membership, rumors on every datagram, anti-entropy for what rumors miss. It has a clock, a source of
 * randomness and something to send datagrams by, and no other way to the world.
 */
export class Gossip {
  readonly members: MemberTable;
  readonly table = new RecordTable();
  readonly counts: GossipCounts = newCounts();
  readonly own: OwnRecord;
  readonly detector: FailureDetector;
  readonly #options: GossipOptions;
  readonly #codec: DatagramCodec;
  readonly #fingerprints = new Fingerprints();
  readonly #rumors = new Rumors();
  readonly #reassembly = new Reassembly();
  readonly #antiEntropy: AntiEntropy;
  readonly #probing: Probing;
  readonly #contacts: Contacts;
  readonly #retirement: Retirement;
  readonly #timers = new Set<Timer>();
  #socket: DatagramSocket | null = null;
  #telling = false;
  #deafUntilMs = Number.NEGATIVE_INFINITY;
  #quickSyncs = 0;
  #quickSync = false;
  /** Rows of an exchange are being read: the others have them, or find them the same way. */
  #syncing = false;
  #stopped = false;

  constructor(options: GossipOptions) {
    const { clock, random, clusterId, secret } = options;
    this.#options = options;
    this.#codec = new DatagramCodec(clusterId, secret);
    this.members = new MemberTable((row, was) => this.#memberChanged(row, was));
    this.own = new OwnRecord(options.own, options.generation, (outrun) => this.#ownChanged(outrun));
    this.#fingerprints.set(`b/${this.own.key}`, this.own.bytes, 0);
    this.detector = new FailureDetector(clock, random, this.members, {
      ping: (row, probe, attempt) => this.#probing.ping(row, probe, attempt),
      pingThrough: (mediator, row, probe) => this.#probing.pingThrough(mediator, row, probe),
      accuse: (row, reset) => this.#accuse(row, row.stateVersion, this.own.record, reset),
      bury: (row) => this.#bury(row, row.stateVersion, this.own.record),
      stalled: (forMs) => options.onEvent?.('gossip stood still', { forMs: Math.round(forMs) }),
    });
    this.#antiEntropy = new AntiEntropy(clock, this.#fingerprints, {
      begin: (type) => this.#begin(DatagramType[type]),
      room: (to) => this.#codec.room(to),
      item: (to, item) => this.#codec.item(to, item.kind, item.bytes),
      send: (datagram, to) => this.#send(datagram, to),
      itemsOf: (key) => this.#itemsOf(key),
    });
    this.#probing = new Probing(clock, this.members, this.own, this.detector, {
      begin: (type) => this.#begin(DatagramType[type]),
      send: (datagram, to, about) => this.#sendFilled(datagram, to, about),
    });
    this.#contacts = new Contacts(clock, random, this.members, this.own, options.contacts, (to) => this.#probing.greet(to));
    this.#retirement = new Retirement(clock, this.members, this.table, this.own, {
      forget: (row) => this.#forget(row),
      forgetGroup: (brokerName) => this.#forgetGroup(brokerName),
      hide: (row) => this.#fingerprints.delete(`b/${row.key}`),
      slept: (forMs) => this.#slept(forMs),
    });
  }

  /** Brokers that are not dead, this one too. */
  get liveCount(): number {
    let live = 1;
    for (const { state } of this.members.values()) if (state !== 'dead') live++;
    return live;
  }

  get rumorCount(): number {
    return this.#rumors.size;
  }

  start(socket: DatagramSocket): void {
    this.#socket = socket;
    const { random } = this.#options;
    this.detector.start();
    this.#contacts.start();
    this.#retirement.start();
    this.#every(SYNC_INTERVAL_MS * (0.8 + 0.4 * random.unit()), () => this.#syncWithSomebody());
    this.#every(REFRESH_INTERVAL_MS * (0.8 + 0.2 * random.unit()), () => this.#refresh());
  }

  /** Tells that this broker leaves, as far as one datagram to some reaches; then nothing more. */
  stop(): void {
    if (this.#stopped) return;
    if (this.#socket !== null) this.#sayGoodbye();
    this.#stopped = true;
    this.detector.stop();
    this.#contacts.stop();
    this.#retirement.stop();
    this.#antiEntropy.stop();
    for (const timer of this.#timers) this.#options.clock.clearTimer(timer);
  }

  // ---- what this broker knows first ------------------------------------------------------------------------------------

  publishBroker(change: OwnBrokerChange): void {
    this.own.change(change);
  }

  publishGroup(record: GroupRecord): Merged {
    const merged = this.table.mergeGroup(record);
    this.#groupMerged(merged, record, true);
    return merged;
  }

  /** @param tell this broker leads the group; else others are left to hear it from the leader */
  publishTopic(applied: AppliedTopic, tell: boolean): Merged {
    const merged = this.table.mergeTopic(applied);
    this.#topicMerged(merged, applied.brokerName, applied.record.name, applied, tell);
    return merged;
  }

  suspect(broker: BrokerKey, evidence: Evidence): void {
    const row = this.members.find(broker);
    if (row !== undefined) this.detector.look(row, evidence);
  }

  // ---- datagrams in ----------------------------------------------------------------------------------------------------

  receive(bytes: Uint8Array, host: string, port: number): void {
    if (this.#stopped) return;
    const { counts } = this;
    counts.datagramsIn++;
    counts.bytesIn += bytes.length;
    const opened = this.#codec.open(bytes);
    if (typeof opened === 'string') {
      counts.refused[opened]++;
      return;
    }
    // Two processes of one identity, or an echo: neither is somebody else.
    if (brokerKeyOf(opened.sender) === this.own.key) return;
    this.#retirement.checkSleep();
    if (this.#options.clock.monotonicMs() < this.#deafUntilMs) return;
    this.detector.heard();
    const from = { host, port };
    const row = this.#learnAddress(opened, from);
    try {
      this.#dispatch(opened, from, row);
    } catch (error) {
      if (!(error instanceof MalformedBytes)) throw error;
      counts.refused.malformed++;
    }
    if (row === null) this.#introduce(opened.sender, from);
  }

  #learnAddress({ sender, sequence }: Opened, from: HostPort): MemberRow | null {
    const row = this.members.find(sender);
    if (row === undefined) return null;
    const { generation } = sender;
    if (generation > row.generation || (generation === row.generation && sequence > row.sequence)) {
      row.generation = generation;
      row.sequence = sequence;
      if (row.heardFrom?.host !== from.host || row.heardFrom.port !== from.port) row.heardFrom = from;
    }
    return row;
  }

  /** Somebody speaks of whom there is no record: ask. */
  #introduce(sender: DatagramSender, from: HostPort): void {
    if (this.members.find(sender) === undefined) this.#probing.greet(from);
    else this.#met(from);
  }

  #dispatch({ type, sender, body }: Opened, from: HostPort, row: MemberRow | null): void {
    switch (type) {
      case DatagramType.ping: {
        const ping = this.#probing.readPing(body);
        this.#items(body, from, false);
        this.#probing.onPing(ping, sender, from);
        break;
      }
      case DatagramType.ack:
        this.#probing.onAck(body, from);
        this.#items(body, from, false);
        break;
      case DatagramType.pingRequest:
        this.#probing.onPingRequest(body, from);
        this.#items(body, from, false);
        break;
      case DatagramType.gossip:
        this.#items(body, from, false);
        break;
      case DatagramType.rows:
        this.#items(body, from, true);
        break;
      case DatagramType.summary:
        this.#antiEntropy.onSummary(body, from);
        break;
      case DatagramType.digest:
        this.#antiEntropy.onDigest(body, from);
        break;
      case DatagramType.want:
        this.#antiEntropy.onWant(body, from);
        break;
      case DatagramType.equal:
        this.#quickSyncs = 0;
        break;
      default:
        // Of a later version.
        break;
    }
    if (row !== null) this.#met(from);
  }

  #items(body: ByteReader, from: HostPort, ofSync: boolean): void {
    const before = this.counts.recordsTaken;
    this.#syncing = ofSync;
    try {
      while (body.left > 0) {
        const kind = body.u8();
        this.#item(kind, body.bytes(body.u16()), from);
      }
    } finally {
      this.#syncing = false;
    }
    if (ofSync && this.counts.recordsTaken > before) this.#syncQuickly();
  }

  #item(kind: number, bytes: Uint8Array, from: HostPort): void {
    switch (kind) {
      case ItemKind.broker:
        this.#onBroker(bytes, from);
        break;
      case ItemKind.state:
        this.#onState(bytes);
        break;
      case ItemKind.group:
        this.#onGroup(bytes);
        break;
      case ItemKind.topic:
        this.#onTopic(bytes);
        break;
      case ItemKind.fragment: {
        const whole = this.#reassembly.take(bytes);
        if (whole !== null) this.#item(whole.kind, whole.bytes, from);
        break;
      }
      default:
        break;
    }
  }

  #onBroker(bytes: Uint8Array, from: HostPort): void {
    const { broker, version } = readBrokerHead(bytes);
    const key = brokerKeyOf(broker);
    if (key === this.own.key) {
      if (this.own.outrun(version, bytes)) this.#alarm('broker record conflict', key);
      return;
    }
    const row = this.members.get(key);
    if (row !== undefined) {
      if (row.stale) this.#confirmed(row);
      if (version < row.record.version) return;
      if (row.state === 'dead' && version <= row.stateVersion) {
        // Whoever speaks of the dead as if they lived has not heard.
        this.#antiEntropy.queue(this.#stateItem(row, row.stateVersion, this.own.record, false), from);
        return;
      }
      if (version === row.record.version) {
        if (!equalBytes(bytes, row.bytes)) this.#alarm('broker record conflict', key);
        return;
      }
    }
    if (row === undefined && this.members.size >= MAX_MEMBERS && !this.#retirement.makeRoom()) {
      this.counts.dropped++;
      return;
    }
    if (this.members.mergeRecord(decodeBroker(bytes), bytes, this.#options.clock.monotonicMs()) !== 'taken') return;
    this.counts.recordsTaken++;
    const taken = this.members.get(key) as MemberRow;
    this.#fingerprints.set(`b/${key}`, taken.bytes, 0);
    this.#spread(`b/${key}`, ItemKind.broker, taken.bytes, this.#syncing);
  }

  #onState(bytes: Uint8Array): void {
    const { broker, version, state, reset, by } = decodeState(bytes);
    const key = brokerKeyOf(broker);
    if (key === this.own.key) {
      if (state !== 'alive' && this.own.refute(version)) this.counts.refutations++;
      return;
    }
    const row = this.members.get(key);
    if (row === undefined) return;
    if (state === 'suspect') this.#accuse(row, version, by, reset);
    else if (state === 'dead') this.#bury(row, version, by);
  }

  #onGroup(bytes: Uint8Array): void {
    const record = decodeGroup(bytes);
    // What nobody is left to speak for is not taken up again.
    if (this.#retirement.hasMember(record.brokerName)) this.#groupMerged(this.table.mergeGroup(record, bytes), record, true);
  }

  #onTopic(bytes: Uint8Array): void {
    const { brokerName, name } = readTopicHead(bytes);
    if (!this.#retirement.hasMember(brokerName)) return;
    const { merged, applied } = this.table.mergeTopicBytes(bytes);
    this.#topicMerged(merged, brokerName, name, applied, true);
  }

  // ---- what follows from what was heard --------------------------------------------------------------------------------

  #groupMerged(merged: Merged, record: GroupRecord, tell: boolean): void {
    const key = `g/${record.brokerName}`;
    if (merged === 'conflict') this.#alarm('group record conflict', record.brokerName);
    if (merged === 'full') this.counts.dropped++;
    if (merged !== 'taken') return;
    this.counts.recordsTaken++;
    const { bytes } = this.table.groups.get(record.brokerName) as { readonly bytes: Uint8Array };
    this.#fingerprints.set(key, bytes, 0);
    if (tell) this.#spread(key, ItemKind.group, bytes, this.#syncing);
    this.#options.onGroup(record);
  }

  #topicMerged(merged: Merged, brokerName: string, name: string, applied: AppliedTopic | null, tell: boolean): void {
    const key = `t/${brokerName}/${name}`;
    if (merged === 'conflict') this.#alarm('topic record conflict', key);
    if (merged === 'full') this.counts.dropped++;
    if (merged !== 'taken' || applied === null) return;
    this.counts.recordsTaken++;
    const { bytes } = this.table.topic(brokerName, name) as { readonly bytes: Uint8Array };
    this.#fingerprints.set(key, bytes, 0);
    if (tell) this.#spread(key, ItemKind.topic, bytes, this.#syncing);
    this.#options.onTopic(applied);
  }

  #accuse(row: MemberRow, version: number, by: BrokerKey, reset: boolean): void {
    if (!this.members.accuse(row, version, brokerKeyOf(by), reset, this.#options.clock.monotonicMs())) return;
    if (row.suspicion === null || row.suspicion.accusers.size > MAX_TOLD_ACCUSERS) return;
    this.#spread(`s/${row.key}/${brokerKeyOf(by)}`, ItemKind.state, this.#stateItem(row, version, by, reset).bytes, false);
  }

  #bury(row: MemberRow, version: number, by: BrokerKey): void {
    if (!this.members.bury(row, version, this.#options.clock.monotonicMs())) return;
    this.#fingerprints.delete(`b/${row.key}`);
    this.#rumors.delete(`b/${row.key}`);
    const item: Item = { kind: ItemKind.state, bytes: encodeState({ broker: row.record, version, state: 'dead', reset: false, by }) };
    this.#spread(`s/${row.key}`, item.kind, item.bytes, false);
  }

  #memberChanged(row: MemberRow, was: MemberState | null): void {
    if (row.state === 'suspect' && was !== 'suspect') this.counts.suspicions++;
    if (row.state === 'dead' && was !== 'dead') this.counts.deaths++;
    if (was === 'suspect' && row.state === 'alive') this.counts.suspicionsEnded++;
    if (was === null) this.#retirement.added(row);
    if (was !== row.state) this.detector.changed(row);
    this.#options.onMember(row, was);
  }

  #ownChanged(outrun: boolean): void {
    const { key, bytes, generation } = this.own;
    this.#fingerprints.set(`b/${key}`, bytes, 0);
    this.#spread(`b/${key}`, ItemKind.broker, bytes, false);
    if (outrun) this.#options.onGeneration?.(generation);
  }

  #alarm(alarm: GossipAlarm, key: string): void {
    this.counts.conflicts++;
    this.#options.onAlarm(alarm, key);
  }

  #stateItem(row: MemberRow, version: number, by: BrokerKey, reset: boolean): Item {
    const bytes = encodeState({ broker: row.record, version, state: row.state, reset, by });
    return { kind: ItemKind.state, bytes };
  }

  // ---- forgetting ------------------------------------------------------------------------------------------------------

  #forget(row: MemberRow): void {
    this.members.delete(row);
    this.#fingerprints.delete(`b/${row.key}`);
    this.#rumors.delete(`s/${row.key}`);
    this.detector.forget(row);
    this.#options.onForgotten(row);
  }

  #forgetGroup(brokerName: string): void {
    const topics = this.table.forgetGroup(brokerName);
    for (const key of [`g/${brokerName}`, ...topics.map((name) => `t/${brokerName}/${name}`)]) {
      this.#fingerprints.delete(key);
      this.#rumors.delete(key);
    }
    this.#options.onGroupForgotten(brokerName, topics);
  }

  /** What it knew may be of those who are long forgotten: nothing of it is told until somebody has said it again. */
  #slept(forMs: number): void {
    this.#options.onEvent?.('gossip slept', { forMs: Math.round(forMs) });
    this.#rumors.clear();
    this.#deafUntilMs = this.#options.clock.monotonicMs() + STALE_DATAGRAMS_MS;
    this.#contacts.separated();
    this.own.renew();
  }

  #confirmed(row: MemberRow): void {
    row.stale = false;
    if (row.state !== 'dead') this.#fingerprints.set(`b/${row.key}`, row.bytes, 0);
  }

  // ---- datagrams out ---------------------------------------------------------------------------------------------------

  #begin(type: number): ByteWriter {
    return this.#codec.begin(type, this.own.sender);
  }

  #send(datagram: ByteWriter, to: HostPort): void {
    if (this.#stopped) return;
    this.#transmit(this.#codec.seal(datagram), to);
  }

  #transmit(bytes: Uint8Array, to: HostPort): void {
    this.counts.datagramsOut++;
    this.counts.bytesOut += bytes.length;
    this.#socket?.send(bytes, to.host, to.port);
  }

  /** @param about items that go first; a member row: what the receiver should know of it */
  #sendFilled(datagram: ByteWriter, to: HostPort, about: readonly (Item | MemberRow)[]): void {
    for (const item of about) {
      const one = 'key' in item ? this.#stateItem(item, item.stateVersion, this.own.record, item.suspicion?.reset ?? false) : item;
      this.#codec.item(datagram, one.kind, one.bytes);
    }
    this.#fill(datagram, 1);
    this.#send(datagram, to);
  }

  #fill(datagram: ByteWriter, targets: number): void {
    this.#rumors.fill(targets, retransmitLimit(this.members.size), (kind, bytes) => {
      if (bytes.length > this.#codec.room(datagram)) return false;
      this.#codec.item(datagram, kind, bytes);
      return true;
    });
  }

  #spread(key: string, kind: number, bytes: Uint8Array, lazy: boolean): void {
    const pieces = piecesOf({ kind, bytes });
    for (const [at, piece] of pieces.entries()) this.#rumors.add(at === 0 ? key : `${key}#${at}`, piece.kind, piece.bytes, lazy);
    if (lazy || this.#telling || this.#socket === null || this.#stopped) return;
    this.#telling = true;
    // All news of this turn in one datagram.
    this.#options.clock.defer(() => this.#tell());
  }

  #tell(): void {
    if (this.#stopped) return;
    this.#retirement.checkSleep();
    const live = [...this.members.values()].filter(({ state }) => state !== 'dead');
    if (!this.#rumors.urgent || live.length === 0) {
      this.#telling = false;
      return;
    }
    const datagrams = Math.min(MAX_GOSSIP_DATAGRAMS, 1 + Math.floor(this.#rumors.size / RUMORS_PER_DATAGRAM));
    for (let sent = 0; sent < datagrams; sent++) this.#tellSome(live);
    this.#after(GOSSIP_INTERVAL_MS, () => this.#tell());
  }

  #tellSome(live: MemberRow[]): void {
    shuffle(live, this.#options.random, GOSSIP_FANOUT);
    const targets = live.slice(0, GOSSIP_FANOUT);
    const datagram = this.#begin(DatagramType.gossip);
    this.#fill(datagram, targets.length);
    const bytes = this.#codec.seal(datagram);
    for (const row of targets) this.#transmit(bytes, row.heardFrom ?? row.record.address);
  }

  #refresh(): void {
    this.#spread(`b/${this.own.key}`, ItemKind.broker, this.own.bytes, true);
    const group = this.table.groups.get(this.own.record.brokerName);
    const leads = group !== undefined && group.record.leader === this.own.record.replicaId && this.own.record.role === 'leader';
    if (leads) this.#spread(`g/${group.record.brokerName}`, ItemKind.group, group.bytes, true);
  }

  #sayGoodbye(): void {
    const { record } = this.own;
    const live = [...this.members.values()].filter(({ state }) => state !== 'dead');
    shuffle(live, this.#options.random, 2 * GOSSIP_FANOUT);
    const datagram = this.#begin(DatagramType.gossip);
    const bytes = encodeState({ broker: record, version: record.version, state: 'dead', reset: false, by: record });
    this.#codec.item(datagram, ItemKind.state, bytes);
    const sealed = this.#codec.seal(datagram);
    for (const row of live.slice(0, 2 * GOSSIP_FANOUT)) this.#transmit(sealed, row.heardFrom ?? row.record.address);
  }

  #itemsOf(key: string): readonly Item[] {
    const [kind, ...rest] = key.split('/') as [string, ...string[]];
    const name = rest.join('/');
    if (kind === 'b') {
      if (name === this.own.key) return piecesOf({ kind: ItemKind.broker, bytes: this.own.bytes });
      const row = this.members.get(name);
      return row === undefined || row.stale ? [] : piecesOf({ kind: ItemKind.broker, bytes: row.bytes });
    }
    const brokerName = rest[0] as string;
    const row = kind === 'g' ? this.table.groups.get(name) : this.table.topic(brokerName, rest.slice(1).join('/'));
    if (row === undefined) return [];
    return piecesOf({ kind: kind === 'g' ? ItemKind.group : ItemKind.topic, bytes: row.bytes });
  }

  // ---- exchanges -------------------------------------------------------------------------------------------------------

  #syncWithSomebody(): void {
    this.#retirement.checkSleep();
    const live = [...this.members.values()].filter(({ state, stale }) => state === 'alive' && !stale);
    const row = live[Math.floor(this.#options.random.unit() * live.length)];
    if (row === undefined) return;
    this.counts.syncs++;
    this.#antiEntropy.begin(row.heardFrom ?? row.record.address);
  }

  /** The first one that spoke to this broker tells it what it knows. */
  #met(from: HostPort): void {
    if (!this.#contacts.met()) return;
    this.counts.syncs++;
    this.#antiEntropy.begin(from);
    this.#syncQuickly();
  }

  #syncQuickly(): void {
    this.#quickSyncs = MAX_QUICK_SYNCS;
    if (this.#quickSync) return;
    this.#quickSync = true;
    this.#after(QUICK_SYNC_INTERVAL_MS, () => {
      this.#quickSync = false;
      if (this.#quickSyncs === 0) return;
      const left = this.#quickSyncs - 1;
      this.#syncWithSomebody();
      this.#syncQuickly();
      this.#quickSyncs = left;
    });
  }

  #after(delayMs: number, callback: () => void): void {
    const timer = this.#options.clock.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      if (!this.#stopped) callback();
    });
    this.#timers.add(timer);
  }

  #every(intervalMs: number, callback: () => void): void {
    this.#after(intervalMs, () => {
      callback();
      this.#every(intervalMs, callback);
    });
  }
}
