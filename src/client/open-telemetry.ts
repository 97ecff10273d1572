import { createRequire } from 'node:module';

/**
 * The part of `@opentelemetry/api` that is used here, so that nobody needs the package who does not trace. The module itself fits:
 * `import * as api from '@opentelemetry/api'`.
 */
export interface OpenTelemetryApi {
  readonly trace: {
    getTracer(name: string, version?: string): OtelTracer;
    getTracerProvider(): unknown;
    /** Takes a span that startSpan() gave; its whole type is the API's own. */
    setSpan(context: OtelContext, span: never): OtelContext;
    setSpanContext(context: OtelContext, spanContext: OtelSpanContext): OtelContext;
    isSpanContextValid(spanContext: OtelSpanContext): boolean;
  };
  readonly context: { active(): OtelContext; with<T>(context: OtelContext, work: () => T): T };
  readonly ROOT_CONTEXT: OtelContext;
  createTraceState(text?: string): OtelTraceState;
}

export interface OtelContext {
  getValue(key: symbol): unknown;
  setValue(key: symbol, value: unknown): OtelContext;
  deleteValue(key: symbol): OtelContext;
}
export interface OtelTraceState {
  set(key: string, value: string): OtelTraceState;
  unset(key: string): OtelTraceState;
  get(key: string): string | undefined;
  serialize(): string;
}
export interface OtelSpanContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly traceFlags: number;
  readonly traceState?: OtelTraceState;
  readonly isRemote?: boolean;
}
export interface OtelSpan {
  spanContext(): OtelSpanContext;
  setAttributes(attributes: Readonly<Record<string, string | number>>): unknown;
  setStatus(status: { readonly code: number; readonly message?: string }): unknown;
  end(endTime?: number): void;
}
export interface OtelTracer {
  startSpan(
    name: string,
    options: {
      readonly kind: number;
      readonly attributes: Readonly<Record<string, string | number>>;
      readonly startTime?: number;
      readonly links?: { context: OtelSpanContext }[];
    },
    context: OtelContext,
  ): OtelSpan;
}

/** The API's numbers, which are the same in every version. */
export const SpanKind = { client: 2, producer: 3, consumer: 4 } as const;
export const STATUS_ERROR = 2;

/** A tracer provider that stands for one to be registered. */
interface Proxy {
  getDelegateTracer?(name: string): unknown;
}

/** @returns the API of this process, when it can be loaded and somebody has registered a tracer provider by now; else null */
export function registeredOpenTelemetry(): OpenTelemetryApi | null {
  try {
    const api = createRequire(import.meta.url)('@opentelemetry/api') as OpenTelemetryApi;
    const provider = api.trace.getTracerProvider() as Proxy;
    // Without a provider every span would be made for nobody.
    return provider.getDelegateTracer !== undefined && provider.getDelegateTracer('ledgermq') === undefined ? null : api;
  } catch {
    return null;
  }
}
