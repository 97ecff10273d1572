import type { OpenTelemetryApi, OtelContext, OtelSpanContext } from './open-telemetry.ts';

/** W3C Trace Context in a message's properties; a user who sets `traceparent` has the say. */
export const TRACEPARENT = 'traceparent';
export const TRACESTATE = 'tracestate';

/** version - trace id - span id - flags; what a later version adds behind is passed over. */
const PATTERN = /^(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
/** The standard asks for so much at least to be passed on. */
const MAX_TRACESTATE_CHARACTERS = 512;

export function traceProperties({ traceId, spanId, traceFlags, traceState }: OtelSpanContext): (readonly [string, string])[] {
  const flags = (traceFlags & 0xff).toString(16).padStart(2, '0');
  const list: (readonly [string, string])[] = [[TRACEPARENT, `00-${traceId}-${spanId}-${flags}`]];
  const state = traceState?.serialize() ?? '';
  if (state !== '' && state.length <= MAX_TRACESTATE_CHARACTERS) list.push([TRACESTATE, state]);
  return list;
}

/** @returns null when the text is none that the standard allows */
export function parseTraceparent(api: OpenTelemetryApi, traceparent: string, tracestate: string | undefined): OtelSpanContext | null {
  const [, version, traceId = '', spanId = '', flags = '', rest] = PATTERN.exec(traceparent) ?? [];
  if (version === undefined || (version === '00' && rest !== undefined)) return null;
  const traceState = tracestate === undefined ? {} : { traceState: api.createTraceState(tracestate) };
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true, ...traceState };
  return api.trace.isSpanContextValid(context) ? context : null;
}

/** The context that a message carries, or `otherwise`. */
export function remoteContext(api: OpenTelemetryApi, property: (name: string) => string | undefined, otherwise: OtelContext): OtelContext {
  const traceparent = property(TRACEPARENT);
  const remote = traceparent === undefined ? null : parseTraceparent(api, traceparent, property(TRACESTATE));
  return remote === null ? otherwise : api.trace.setSpanContext(api.ROOT_CONTEXT, remote);
}
