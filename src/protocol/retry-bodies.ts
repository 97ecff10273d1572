import type {
  DeadLetterMarkRequest,
  DeadLetterMarksRequest,
  DeadLetterMarksResponse,
  SendBackRequest,
  SentBackMessage,
} from './retry-requests.ts';
import { int, list, map, textUpTo, u16, u53 } from './schema.ts';

/** Messages of one send-back, offsets of one mark at most. */
export const MAX_SENT_BACK = 1_024;
/** Those of a delayed message: 40 days. */
export const MAX_RETRY_DELAY_MS = 40 * 24 * 3_600_000;

const name = textUpTo(512);

export const sendBackRequest = map<SendBackRequest>({
  group: name,
  member: name,
  topic: name,
  queueId: u16,
  epoch: u53,
  maxReconsumeTimes: u16,
  messages: list(
    map<SentBackMessage>({ offset: u53, delayLevel: int(-1, 0xffff), delayMs: int(0, MAX_RETRY_DELAY_MS), attempts: u16 }),
    MAX_SENT_BACK,
  ),
});
/** One error number each. */
export const errors = map<{ errors: readonly number[] }>({ errors: list(u16, MAX_SENT_BACK) });
export const deadLetterMarkRequest = map<DeadLetterMarkRequest>({ group: name, offsets: list(u53, MAX_SENT_BACK) });
export const deadLetterMarksRequest = map<DeadLetterMarksRequest>({ group: name, from: u53, to: u53 });
export const deadLetterMarksResponse = map<DeadLetterMarksResponse>({
  marks: list(map<DeadLetterMarksResponse['marks'][number]>({ offset: u53, replays: u53, lastReplayMs: u53 })),
});
