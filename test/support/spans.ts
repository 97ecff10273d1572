import * as api from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { BasicTracerProvider, InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';

/** OpenTelemetry of this process, as an application would set it up, keeping its spans in memory. */
export class RecordedSpans {
  readonly #exporter = new InMemorySpanExporter();

  constructor() {
    const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(this.#exporter)] });
    api.trace.setGlobalTracerProvider(provider);
    api.context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  }

  /** Ended ones, in the order of their ends. */
  get all(): readonly ReadableSpan[] {
    return this.#exporter.getFinishedSpans();
  }

  named(name: string): readonly ReadableSpan[] {
    return this.all.filter((span) => span.name === name);
  }

  forget(): void {
    this.#exporter.reset();
  }

  unregister(): void {
    api.trace.disable();
    api.context.disable();
  }
}

export const idOf = (span: ReadableSpan | undefined): string => span?.spanContext().spanId ?? 'none';
export const parentOf = (span: ReadableSpan | undefined): string => span?.parentSpanContext?.spanId ?? 'root';
