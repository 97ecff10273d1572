import { describe, expect, test } from 'vitest';
import { TestGroup } from './group.ts';

describe('health of a server', () => {
  test('F39 health: while a replica is missing the others live and are started, but not ready, and say whom they wait for', async () => {
    await using group = await TestGroup.make();
    await group.start(1, 2);
    expect(await group.get(1, '/livez?verbose')).toEqual({ status: 200, text: '[+]store ok\nlivez check passed\n' });
    expect(await group.get(1, '/startupz?verbose')).toEqual({ status: 200, text: '[+]log-recovered ok\nstartupz check passed\n' });
    const waiting = await group.until(1, '/readyz?verbose', ({ text }) => text.includes('waiting for replica 3\n'));
    expect(waiting).toContain('[+]log-recovered ok');
    expect(waiting).toContain('[-]leader-known failed: no leader is known');
    expect(waiting).toContain('[-]serving failed: forming');
    expect(waiting).toContain('readyz check failed');
    expect(await group.get(1, '/readyz')).toMatchObject({ status: 503 });
    expect(JSON.parse((await group.get(1, '/api/status')).text)).toMatchObject({ role: 'forming', replicaId: 1, leader: 0 });

    await group.start(3);
    await group.ready();
    const passed = ['store', 'log-recovered', 'group-formed', 'leader-known', 'in-step', 'serving']
      .map((name) => `[+]${name} ok\n`)
      .join('');
    for (const id of [1, 2, 3]) {
      await group.until(id, '/readyz?verbose', ({ status, text }) => status === 200 && text === `${passed}readyz check passed\n`);
    }
  });

  test('F39 health: a replica without a quorum lives, and is not ready', async () => {
    await using group = await TestGroup.make();
    await group.start(1, 2, 3);
    await group.ready();
    await Promise.all([2, 3].map((id) => group.servers.get(id)?.stop()));
    expect(await group.until(1, '/readyz?verbose', ({ status }) => status === 503)).toContain('[-]leader-known failed: no leader is known');
    expect(await group.get(1, '/livez')).toEqual({ status: 200, text: 'ok\n' });
  });
});
