import type { ReceivedMessage } from '../client/message.ts';

export interface ShownMessage {
  readonly msgId: string;
  readonly topic: string;
  readonly brokerName: string;
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
export function shownMessage(message: ReceivedMessage): ShownMessage {
  const { msgId, topic, brokerName, queueId, offset, tag, keys, orderingKey, properties, bornTimeMs, storeTimeMs } = message;
  return {
    msgId,
    topic,
    brokerName,
    queueId,
    offset,
    tag: tag ?? null,
    keys,
    orderKey: orderingKey ?? null,
    properties,
    bornTimeMs,
    storeTimeMs,
    ...shownBody(message.body),
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
