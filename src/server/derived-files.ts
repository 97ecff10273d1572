import { assert } from '../base/assert.ts';
import type { KeyHits, MessageIdIndex, QueueStore } from '../broker/ports.ts';
import type { Disk } from '../io/disk.ts';
import type { ConsumeQueue } from '../log/consume-queue-types.ts';
import { ConsumeQueues } from '../log/consume-queues.ts';
import { ID_BLOCK, IndexFiles, type IndexRange, keyIndexHash, messageIdHash, referenceHash } from '../log/index-files.ts';
import type { DerivedFiles } from '../replica/derived.ts';

/**
 * Candidates looked at for one message id. Its item is shared by ID_BLOCK ids, each of them perhaps a batch of its own that was stored,
 * sent again, and copied before more than one cut: the log holds a few times as many, the rest are hash collisions.
 */
const MAX_ID_CANDIDATES = 64 * ID_BLOCK;

/** ConsumeQueues and indexes of one replica, as the replica (files) and the state machine (entries) see them. */
export class DerivedStores implements DerivedFiles, QueueStore, MessageIdIndex {
  readonly #queues: ConsumeQueues;
  /** Of message ids. */
  readonly #index: IndexFiles;
  /** Of keys: files of their own, so that a directory of a release that knew none is seen to lack them and gets them from the log. */
  readonly #keys: IndexFiles;
  /** What both indexes held of the log when they were last cut back. */
  #indexed = { start: 0, end: 0 };

  private constructor(queues: ConsumeQueues, index: IndexFiles, keys: IndexFiles) {
    this.#queues = queues;
    this.#index = index;
    this.#keys = keys;
  }

  static async open(disk: Disk, dataDirectory: string, onDamage: (what: string, cause: Error) => void): Promise<DerivedStores> {
    const queues = await ConsumeQueues.open({
      disk,
      directory: `${dataDirectory}/consumequeue`,
      onDamage: (topic, queueId, cause) => onDamage(`consumequeue ${topic}/${queueId}`, cause),
    });
    const openIndex = (name: string): Promise<IndexFiles> =>
      IndexFiles.open({ disk, directory: `${dataDirectory}/${name}`, onDamage: (cause) => onDamage(name, cause) });
    return new DerivedStores(queues, await openIndex('index'), await openIndex('keyindex'));
  }

  // ---- QueueStore, MessageIdIndex: at apply --------------------------------------------------------------------------------

  queue(topic: string, topicId: number, queueId: number): ConsumeQueue {
    return this.#queues.queue(topic, topicId, queueId);
  }

  removeTopic(topic: string): void {
    this.#queues.removeTopic(topic);
  }

  putIds(idHigh: Uint8Array, idLow: number, count: number, position: number, logTimeMs: number): void {
    const last = Math.floor((idLow + count - 1) / ID_BLOCK);
    for (let block = Math.floor(idLow / ID_BLOCK); block <= last; block++) {
      this.#index.put(messageIdHash(idHigh, 0, block), position, logTimeMs);
    }
  }

  findId(idHigh: Uint8Array, idLow: number): Promise<readonly number[]> {
    return this.#index.findMessageId({ high: idHigh, low: idLow }, MAX_ID_CANDIDATES);
  }

  putKeys(topicId: number, keyHashes: readonly number[], position: number, logTimeMs: number): void {
    for (const hash of keyHashes) this.#keys.put(keyIndexHash(topicId, hash), position, logTimeMs);
  }

  findKey(topicId: number, keyHash: number, range: IndexRange): Promise<KeyHits> {
    return this.#keys.search(keyIndexHash(topicId, keyHash), range);
  }

  putRow(position: number, rowPosition: number, logTimeMs: number): void {
    this.#index.put(referenceHash(position), rowPosition, logTimeMs);
  }

  async findRows(position: number, max: number): Promise<readonly number[]> {
    const range = { fromTimeMs: 0, toTimeMs: Number.MAX_SAFE_INTEGER, beforePosition: Number.MAX_SAFE_INTEGER, max };
    return (await this.#index.search(referenceHash(position), range)).positions.toReversed();
  }

  cut(startPosition: number): void {
    assert(startPosition >= 0, 'a position');
    // Files before the start go with the segments (cutBefore): until then a hit there is found to be gone when it is read.
  }

  // ---- DerivedFiles: behind the log ----------------------------------------------------------------------------------------

  async truncateFrom(position: number): Promise<void> {
    const indexes = [this.#index, this.#keys];
    this.#indexed = {
      start: Math.max(...indexes.map(({ startPosition }) => startPosition)),
      end: Math.min(position, ...indexes.map(({ coveredPosition }) => coveredPosition)),
    };
    await this.#queues.truncateFrom(position);
    for (const index of indexes) await index.truncateFrom(position);
  }

  covers(startPosition: number, position: number): boolean {
    return startPosition >= position || (this.#indexed.start <= startPosition && this.#indexed.end >= position);
  }

  dropUnclaimed(): Promise<void> {
    return this.#queues.dropUnclaimed();
  }

  async flush(durablePosition: number): Promise<void> {
    await this.#queues.flush(durablePosition);
    await this.#index.flush(durablePosition);
    await this.#keys.flush(durablePosition);
  }

  async sync(): Promise<void> {
    await this.#queues.sync();
    await this.#index.sync();
    await this.#keys.sync();
  }

  async cutBefore(position: number): Promise<void> {
    await this.#queues.cutBefore(position);
    await this.#index.cutBefore(position);
    await this.#keys.cutBefore(position);
  }

  async close(): Promise<void> {
    await this.#queues.close();
    await this.#index.close();
    await this.#keys.close();
  }
}
