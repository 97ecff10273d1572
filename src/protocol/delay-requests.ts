/** Delayed messages (docs/protocol.md): operations 60 and 61. */
export interface DelayCancelRequest {
  /** 32 hex digits. */
  readonly id: string;
  /** That it was sent to. */
  readonly topic: string;
}

export interface DelayListRequest {
  /** Time buckets in the answer at most. */
  readonly maxBuckets: number;
}

export interface DelayListResponse {
  readonly logTimeMs: number;
  readonly levels: readonly {
    readonly level: number;
    readonly delayMs: number;
    /** Messages that wait. */
    readonly pending: number;
    /** When the first of them is due; −1: none waits. */
    readonly nextDueMs: number;
  }[];
  /** What waits for times of its own, in units: batches, and single messages. */
  readonly timers: number;
  /** −1: none, or not read yet. */
  readonly nextDueMs: number;
  /** Of the timers, in the leader's memory. */
  readonly nearTimers: number;
  readonly cancelledMessages: number;
  /** Earliest first. */
  readonly buckets: readonly { readonly fromMs: number; readonly toMs: number; readonly timers: number }[];
  readonly bucketCount: number;
}

/** By operation number. */
export interface DelayRequests {
  readonly 60: DelayCancelRequest;
  readonly 61: DelayListRequest;
}
export interface DelayResponses {
  readonly 60: Record<string, never>;
  readonly 61: DelayListResponse;
}
