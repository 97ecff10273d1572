import type { MetricsRegistry } from '../metrics/registry.ts';
import type { BindGauge } from './sampled.ts';
import type { ServerView } from './server-view.ts';

export function bindGateway(registry: MetricsRegistry, gauge: BindGauge, view: ServerView): void {
  const traffic = () => view.gateway?.traffic;
  gauge('ledgermq_gateway_connections', () => view.gateway?.counts().connections);
  gauge('ledgermq_gateway_paused_connections', () => view.gateway?.pausedConnections);
  gauge('ledgermq_gateway_frames_in_total', () => traffic()?.framesIn);
  gauge('ledgermq_gateway_frames_out_total', () => traffic()?.framesOut);
  gauge('ledgermq_gateway_bytes_in_total', () => traffic()?.bytesIn);
  gauge('ledgermq_gateway_bytes_out_total', () => traffic()?.bytesOut);
  gauge('ledgermq_gateway_waiters', () => view.broker?.gauges.waiters);
  registry.source('ledgermq_gateway_connections_refused_total', (emit) => {
    for (const [reason, count] of traffic()?.refused ?? []) emit(count, reason);
  });
  registry.source('ledgermq_gateway_errors_total', (emit) => {
    for (const [code, count] of traffic()?.errors() ?? []) emit(count, code);
  });
}
