import { assert } from '../../src/base/assert.ts';
import { equalBytes } from '../../src/base/bytes.ts';
import type { KeyHits, MessageIdIndex, QueueStore } from '../../src/broker/ports.ts';
import type { ConsumeQueue, UnitBatch } from '../../src/log/consume-queue-types.ts';

interface Row {
  readonly baseOffset: number;
  readonly position: number;
  readonly logTimeMs: number;
  readonly sizeBytes: number;
  readonly count: number;
  readonly tagBloom: number;
}

export class MemoryQueue implements ConsumeQueue {
  readonly topic: string;
  readonly topicId: number;
  readonly queueId: number;
  minOffset = 0;
  readonly rows: Row[] = [];

  constructor(topic: string, topicId: number, queueId: number) {
    this.topic = topic;
    this.topicId = topicId;
    this.queueId = queueId;
  }
  get nextOffset(): number {
    const last = this.rows.at(-1);
    return last === undefined ? this.minOffset : last.baseOffset + last.count;
  }
  append(baseOffset: number, position: number, logTimeMs: number, sizeBytes: number, count: number, tagBloom: number): void {
    assert(this.rows.length === 0 || baseOffset === this.nextOffset, 'units are dense');
    this.rows.push({ baseOffset, position, logTimeMs, sizeBytes, count, tagBloom });
  }
  restore(minOffset: number, nextOffset: number): boolean {
    this.minOffset = minOffset;
    return minOffset === nextOffset || (this.nextOffset === nextOffset && (this.rows[0] as Row).baseOffset <= minOffset);
  }
  readUnits(fromOffset: number, maxUnits: number, into: UnitBatch): number {
    const found = this.rows.filter((row) => row.baseOffset + row.count > fromOffset).slice(0, Math.min(maxUnits, into.capacity));
    found.forEach((row, i) => {
      into.baseOffset[i] = row.baseOffset;
      into.position[i] = row.position;
      into.logTimeMs[i] = row.logTimeMs;
      into.sizeBytes[i] = row.sizeBytes;
      into.count[i] = row.count;
      into.tagBloom[i] = row.tagBloom;
    });
    into.length = found.length;
    return found.length;
  }
  offsetAtTime(logTimeMs: number): number {
    return this.rows.find((row) => row.logTimeMs >= logTimeMs && row.baseOffset >= this.minOffset)?.baseOffset ?? this.nextOffset;
  }
}

export class MemoryQueues implements QueueStore {
  readonly open = new Map<string, MemoryQueue>();
  queue(topic: string, topicId: number, queueId: number): MemoryQueue {
    const old = this.open.get(`${topic}/${queueId}`);
    if (old?.topicId === topicId) return old;
    const made = new MemoryQueue(topic, topicId, queueId);
    this.open.set(`${topic}/${queueId}`, made);
    return made;
  }
  removeTopic(topic: string): void {
    for (const [key, queue] of this.open) if (queue.topic === topic) this.open.delete(key);
  }
  /** As recovery does before restore(). */
  truncateFrom(position: number): void {
    for (const queue of this.open.values()) while ((queue.rows.at(-1)?.position ?? -1) >= position) queue.rows.pop();
  }
}

export class MemoryIds implements MessageIdIndex {
  readonly puts: { readonly high: Uint8Array; readonly low: number; readonly count: number; readonly position: number }[] = [];
  start = 0;
  putIds(idHigh: Uint8Array, idLow: number, count: number, position: number): void {
    this.puts.push({ high: idHigh.slice(), low: idLow, count, position });
  }
  findId(idHigh: Uint8Array, idLow: number): number[] {
    return this.puts
      .filter(({ high, low, count, position }) => equalBytes(high, idHigh) && idLow >= low && idLow < low + count && position >= this.start)
      .map(({ position }) => position)
      .reverse();
  }
  readonly keys: { readonly topicId: number; readonly hash: number; readonly position: number; readonly logTimeMs: number }[] = [];
  putKeys(topicId: number, keyHashes: readonly number[], position: number, logTimeMs: number): void {
    for (const hash of keyHashes) this.keys.push({ topicId, hash, position, logTimeMs });
  }
  findKey(topicId: number, hash: number, range: { fromTimeMs: number; toTimeMs: number; beforePosition: number; max: number }): KeyHits {
    const all = this.keys.filter(
      (key) =>
        key.topicId === topicId &&
        key.hash === hash &&
        key.position < range.beforePosition &&
        key.logTimeMs >= range.fromTimeMs &&
        key.logTimeMs <= range.toTimeMs,
    );
    const positions = [...new Set(all.map(({ position }) => position))].reverse().slice(0, range.max);
    return { positions, restBefore: positions.length === range.max ? (positions.at(-1) as number) : null };
  }
  readonly rows: { readonly position: number; readonly rowPosition: number }[] = [];
  putRow(position: number, rowPosition: number): void {
    this.rows.push({ position, rowPosition });
  }
  findRows(position: number): number[] {
    return this.rows.filter((row) => row.position === position).map(({ rowPosition }) => rowPosition);
  }
  cut(startPosition: number): void {
    this.start = startPosition;
  }
}
