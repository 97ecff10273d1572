import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AdminHttp, type AdminStatus, type HealthVerdict, startAdminHttp } from '../../src/gateway/admin-http.ts';

const STATUS: AdminStatus = {
  clusterId: 'c',
  version: '0.1.0',
  uptimeMs: 5,
  brokerName: 'a',
  replicaId: 1,
  role: 'leader',
  term: 2,
  leader: 1,
  firstIndex: 1,
  lastIndex: 2,
  durableIndex: 2,
  commitIndex: 2,
  appliedIndex: 2,
  startPosition: 0,
  endPosition: 8192,
  peers: [],
  stateDigest: 0,
};

describe('admin HTTP', () => {
  let admin: AdminHttp;
  let leader: HealthVerdict = { ok: true };
  let disk: () => HealthVerdict = () => ({ ok: true });
  let metrics: () => Promise<string> = () => Promise.resolve('up 1\n');

  beforeEach(async () => {
    leader = { ok: true };
    disk = () => ({ ok: true });
    metrics = () => Promise.resolve('up 1\n');
    const checkDisk = { name: 'disk', check: () => disk() };
    const checkLeader = { name: 'leader', check: () => leader };
    admin = await startAdminHttp('127.0.0.1', 0, {
      health: { livez: [checkDisk], readyz: [checkDisk, checkLeader], startupz: [] },
      metricsContentType: 'text/plain; version=0.0.4',
      metrics: () => metrics(),
      status: () => STATUS,
    });
  });
  afterEach(() => admin.close());

  const get = async (path: string, init?: RequestInit): Promise<{ status: number; type: string | null; text: string }> => {
    const response = await fetch(`http://127.0.0.1:${admin.port}${path}`, init);
    return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
  };

  test('healthy paths answer 200 ok; verbose lists the named checks', async () => {
    expect(await get('/livez')).toMatchObject({ status: 200, text: 'ok\n' });
    expect(await get('/startupz')).toMatchObject({ status: 200, text: 'ok\n' });
    expect(await get('/readyz?verbose')).toMatchObject({ status: 200, text: '[+]disk ok\n[+]leader ok\nreadyz check passed\n' });
  });

  test('a failed check answers 503, with its name and reason, without being asked to be verbose', async () => {
    leader = { ok: false, detail: 'no leader known' };
    expect(await get('/readyz')).toMatchObject({
      status: 503,
      text: '[+]disk ok\n[-]leader failed: no leader known\nreadyz check failed\n',
    });
    expect((await get('/livez')).status).toBe(200);
    expect((await get('/readyz?exclude=leader')).status).toBe(200);
    expect((await get('/readyz/leader')).status).toBe(503);
    expect((await get('/readyz/disk')).status).toBe(200);
    expect((await get('/readyz/other')).status).toBe(404);
  });

  test('a check that throws has failed', async () => {
    disk = () => {
      throw new Error('poisoned');
    };
    expect(await get('/livez')).toMatchObject({ status: 503, text: '[-]disk failed: poisoned\nlivez check failed\n' });
  });

  test('F39 metrics are served as Prometheus text; a scrape that fails says 500', async () => {
    expect(await get('/metrics')).toEqual({ status: 200, type: 'text/plain; version=0.0.4', text: 'up 1\n' });
    metrics = () => Promise.reject(new Error('no'));
    expect((await get('/metrics')).status).toBe(500);
    expect((await get('/livez')).status).toBe(200);
  });

  test('status is JSON; other paths are 404, other methods 405; HEAD has no body', async () => {
    expect(await get('/api/status')).toEqual({ status: 200, type: 'application/json', text: `${JSON.stringify(STATUS)}\n` });
    expect((await get('/')).status).toBe(404);
    expect((await get('/livez', { method: 'POST', body: 'x' })).status).toBe(405);
    expect(await get('/livez', { method: 'HEAD' })).toMatchObject({ status: 200, text: '' });
  });

  test('a request line that is no URL, or headers without end, do not harm', async () => {
    const raw = (text: string): Promise<string> =>
      new Promise((resolve) => {
        let answer = '';
        const socket = connect(admin.port, '127.0.0.1', () => socket.write(text));
        socket.on('data', (chunk) => {
          answer += chunk.toString();
        });
        socket.on('close', () => resolve(answer));
        socket.on('error', () => resolve(answer));
      });
    expect(await raw('GET http://[ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')).toContain(' 404 ');
    expect(await raw(`GET /livez HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)).toContain(' 431 ');
    expect((await get('/livez')).status).toBe(200);
  });
});
