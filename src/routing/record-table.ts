import { equalBytes } from '../base/bytes.ts';
import { decodeTopic, encodeGroup, encodeTopic, readTopicHead } from './record-codec.ts';
import type { AppliedTopic, GroupRecord } from './records.ts';

/** Far above what a cluster has (30 groups; 10,000 topics on three of them). Further records are dropped and counted. */
export const MAX_GROUPS = 1_024;
export const MAX_APPLIED_TOPICS = 100_000;

/** What became of a record. `conflict`: the same epoch with another body, which no owner makes: an alarm. */
export type Merged = 'taken' | 'known' | 'older' | 'conflict' | 'full';

export interface GroupRow {
  readonly record: GroupRecord;
  readonly bytes: Uint8Array;
}
export interface TopicRow {
  readonly applied: AppliedTopic;
  readonly bytes: Uint8Array;
}

/**
 * Records of groups and of the topics that groups have applied. The higher epoch wins whatever the order of arrival, and
 * nothing goes back, so all tables that heard the same agree.
 */
export class RecordTable {
  /** By brokerName. */
  readonly groups = new Map<string, GroupRow>();
  /** By brokerName, then by topic. */
  readonly topics = new Map<string, Map<string, TopicRow>>();
  #topicRows = 0;

  get topicRows(): number {
    return this.#topicRows;
  }

  /** @param bytes the record as its owner encoded it */
  mergeGroup(record: GroupRecord, bytes = encodeGroup(record)): Merged {
    const known = this.groups.get(record.brokerName);
    if (known === undefined) {
      if (this.groups.size >= MAX_GROUPS) return 'full';
    } else {
      const order = compareGroups(record, known.record);
      if (order < 0) return 'older';
      if (order === 0) return equalBytes(bytes, known.bytes) ? 'known' : 'conflict';
    }
    this.groups.set(record.brokerName, { record, bytes: Uint8Array.from(bytes) });
    return 'taken';
  }

  mergeTopic(applied: AppliedTopic): Merged {
    const known = this.topic(applied.brokerName, applied.record.name);
    // Said again at a later index (after a restart): no news.
    if (known !== undefined && equalBytes(encodeTopic({ ...applied, logIndex: known.applied.logIndex }), known.bytes)) return 'known';
    const verdict = this.#judge(applied.brokerName, applied.record.name, applied.logIndex);
    if (verdict === 'older' || verdict === 'full') return verdict;
    return this.#takeTopic(applied, encodeTopic(applied), verdict);
  }

  /** `applied` is null where nothing was taken. @throws MalformedBytes */
  mergeTopicBytes(bytes: Uint8Array): { readonly merged: Merged; readonly applied: AppliedTopic | null } {
    const { brokerName, name, logIndex } = readTopicHead(bytes);
    const verdict = this.#judge(brokerName, name, logIndex);
    if (verdict === 'older' || verdict === 'full') return { merged: verdict, applied: null };
    if (verdict === 'same') return { merged: this.#sameBytes(brokerName, name, bytes) ? 'known' : 'conflict', applied: null };
    const applied = decodeTopic(bytes);
    return { merged: this.#takeTopic(applied, Uint8Array.from(bytes), verdict), applied };
  }

  topic(brokerName: string, name: string): TopicRow | undefined {
    return this.topics.get(brokerName)?.get(name);
  }

  /** A group that nobody is left to speak for. @returns names of its topics */
  forgetGroup(brokerName: string): string[] {
    this.groups.delete(brokerName);
    const names = [...(this.topics.get(brokerName)?.keys() ?? [])];
    this.topics.delete(brokerName);
    this.#topicRows -= names.length;
    return names;
  }

  #judge(brokerName: string, name: string, logIndex: number): 'new' | 'same' | 'older' | 'full' {
    const known = this.topic(brokerName, name);
    if (known === undefined) return this.#topicRows >= MAX_APPLIED_TOPICS ? 'full' : 'new';
    if (logIndex < known.applied.logIndex) return 'older';
    return logIndex === known.applied.logIndex ? 'same' : 'new';
  }

  #sameBytes(brokerName: string, name: string, bytes: Uint8Array): boolean {
    const known = this.topic(brokerName, name);
    return known !== undefined && equalBytes(bytes, known.bytes);
  }

  #takeTopic(applied: AppliedTopic, bytes: Uint8Array, verdict: 'new' | 'same'): Merged {
    const { brokerName, record } = applied;
    if (verdict === 'same') return this.#sameBytes(brokerName, record.name, bytes) ? 'known' : 'conflict';
    let rows = this.topics.get(brokerName);
    if (rows === undefined) {
      rows = new Map();
      this.topics.set(brokerName, rows);
    }
    if (!rows.has(record.name)) this.#topicRows++;
    rows.set(record.name, { applied, bytes });
    return 'taken';
  }
}

/** By (term, configVersion, logIndex). */
export function compareGroups(x: GroupRecord, y: GroupRecord): number {
  return x.term - y.term || x.configVersion - y.configVersion || x.logIndex - y.logIndex;
}
