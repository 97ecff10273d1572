import { describe, expect, test } from 'vitest';
import { createLogger } from '../../src/metrics/logger.ts';

function logged(level: string, use: (logger: ReturnType<typeof createLogger>) => void): { text: string; lines: Record<string, unknown>[] } {
  let text = '';
  const destination = {
    write: (line: string): void => {
      text += line;
    },
  };
  use(createLogger({ level, fields: { brokerName: 'a', replicaId: 1 }, clock: { wallMs: () => 1234 }, destination }));
  const lines = text.split('\n').filter((line) => line !== '');
  return { text, lines: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('logger', () => {
  test('F40 logs: one JSON line an event, with level, time, replica and fields', () => {
    const { lines } = logged('info', (logger) => logger.info({ requestId: 'r-1', term: 3 }, 'leader elected'));
    expect(lines).toEqual([
      { level: 'info', time: 1234, brokerName: 'a', replicaId: 1, requestId: 'r-1', term: 3, event: 'leader elected' },
    ]);
  });

  test('F40 logs: levels below the asked one are not written', () => {
    const { lines } = logged('warn', (logger) => {
      logger.info('quiet');
      logger.error('loud');
    });
    expect(lines.map((line) => line['event'])).toEqual(['loud']);
  });

  test('F40 logs: a line break in a field stays inside its line', () => {
    expect(logged('info', (logger) => logger.info({ topic: 'a\nb' }, 'x\ny')).lines).toHaveLength(1);
  });

  test('F40 logs: no payload bytes, wherever they stand', () => {
    const marker = Buffer.from('MARKER-IN-A-BODY');
    const { text, lines } = logged('trace', (logger) => {
      logger.info({ body: marker }, 'top');
      logger.info({ request: { parts: [{ raw: new Uint8Array(marker) }] } }, 'nested');
      logger.info({ buffer: marker.buffer }, 'buffer');
    });
    expect(text).not.toContain('MARKER');
    expect(text).not.toContain('77,65,82,75');
    expect(lines[0]?.['body']).toBe('16 bytes');
    expect(lines[1]?.['request']).toEqual({ parts: [{ raw: '16 bytes' }] });
  });

  test('F40 logs: depth and width of a line are bounded', () => {
    const { text } = logged('info', (logger) =>
      logger.info({ deep: { a: { b: { c: { d: 'hidden' } } } }, wide: Array(10_000).fill(1) }, 'x'),
    );
    expect(text).not.toContain('hidden');
    expect(text.length).toBeLessThan(1000);
  });
});
