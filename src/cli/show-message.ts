import { isReservedProperty, Property } from '../protocol/properties.ts';
import type { BatchReader } from '../protocol/record-batch-reader.ts';

export interface ShownMessage {
  readonly msgId: string;
  readonly topic: string;
  readonly queueId: number;
  readonly offset: number;
  readonly tag: string | null;
  readonly keys: readonly string[];
  readonly orderKey: string | null;
  readonly properties: Readonly<Record<string, string>>;
  readonly bornTimeMs: number;
  readonly storeTimeMs: number;
  /** The body as UTF-8; null when it is not. */
  readonly body: string | null;
  /** Given instead when the body is not UTF-8. */
  readonly bodyBase64?: string;
}

/** A message as `--json` prints it. */
export function shownMessage(reader: BatchReader, at: number, topic: string, queueId: number, storeTimeMs: number): ShownMessage {
  return {
    msgId: reader.messageId(at),
    topic,
    queueId,
    offset: reader.baseOffset + at,
    tag: reader.tag(at) ?? null,
    keys: reader.keys(at),
    orderKey: reader.property(at, Property.shardingKey) ?? null,
    properties: Object.fromEntries([...reader.properties(at)].filter(([name]) => !isReservedProperty(name))),
    bornTimeMs: reader.bornTimeMs(at),
    storeTimeMs,
    ...shownBody(reader.body(at)),
  };
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function shownBody(body: Uint8Array): { body: string | null; bodyBase64?: string } {
  try {
    return { body: strictUtf8.decode(body) };
  } catch {
    return { body: null, bodyBase64: Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64') };
  }
}
