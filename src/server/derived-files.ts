import { assert } from '../base/assert.ts';
import type { MessageIdIndex, QueueStore } from '../broker/ports.ts';
import type { Disk } from '../io/disk.ts';
import type { ConsumeQueue } from '../log/consume-queue-types.ts';
import { ConsumeQueues } from '../log/consume-queues.ts';
import { ID_BLOCK, IndexFiles, messageIdHash } from '../log/index-files.ts';
import type { DerivedFiles } from '../replica/derived.ts';

/** Candidates looked at for one message id: more would be hash collisions only. */
const MAX_ID_CANDIDATES = 64;

/** ConsumeQueues and id index of one replica, as the replica (files) and the state machine (entries) see them. */
export class DerivedStores implements DerivedFiles, QueueStore, MessageIdIndex {
  readonly #queues: ConsumeQueues;
  readonly #index: IndexFiles;
  /** What the id index held of the log when it was last cut back. */
  #indexed = { start: 0, end: 0 };

  private constructor(queues: ConsumeQueues, index: IndexFiles) {
    this.#queues = queues;
    this.#index = index;
  }

  static async open(disk: Disk, dataDirectory: string, onDamage: (what: string, cause: Error) => void): Promise<DerivedStores> {
    const queues = await ConsumeQueues.open({
      disk,
      directory: `${dataDirectory}/consumequeue`,
      onDamage: (topic, queueId, cause) => onDamage(`consumequeue ${topic}/${queueId}`, cause),
    });
    const index = await IndexFiles.open({ disk, directory: `${dataDirectory}/index`, onDamage: (cause) => onDamage('index', cause) });
    return new DerivedStores(queues, index);
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

  cut(startPosition: number): void {
    assert(startPosition >= 0, 'a position');
    // Files before the start go with the segments (cutBefore): until then a hit there is found to be gone when it is read.
  }

  // ---- DerivedFiles: behind the log ----------------------------------------------------------------------------------------

  async truncateFrom(position: number): Promise<void> {
    this.#indexed = { start: this.#index.startPosition, end: Math.min(this.#index.coveredPosition, position) };
    await this.#queues.truncateFrom(position);
    await this.#index.truncateFrom(position);
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
  }

  async sync(): Promise<void> {
    await this.#queues.sync();
    await this.#index.sync();
  }

  async cutBefore(position: number): Promise<void> {
    await this.#queues.cutBefore(position);
    await this.#index.cutBefore(position);
  }

  async close(): Promise<void> {
    await this.#queues.close();
    await this.#index.close();
  }
}
