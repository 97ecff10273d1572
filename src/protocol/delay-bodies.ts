import type { DelayCancelRequest, DelayListRequest, DelayListResponse } from './delay-requests.ts';
import { list, map, textUpTo, u16, u32, u53, u53OrNone } from './schema.ts';

const name = textUpTo(512);

export const delayCancelRequest = map<DelayCancelRequest>({ id: textUpTo(32), topic: name });
export const delayListRequest = map<DelayListRequest>({ maxBuckets: u16 });
export const delayListResponse = map<DelayListResponse>({
  logTimeMs: u53,
  levels: list(map<DelayListResponse['levels'][number]>({ level: u16, delayMs: u53, pending: u53, nextDueMs: u53OrNone })),
  timers: u53,
  nextDueMs: u53OrNone,
  nearTimers: u32,
  cancelledMessages: u32,
  buckets: list(map<DelayListResponse['buckets'][number]>({ fromMs: u53, toMs: u53, timers: u53 })),
  bucketCount: u32,
});
