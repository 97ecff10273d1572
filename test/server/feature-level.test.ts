import { describe, expect, test } from 'vitest';
import { FIRST_FEATURE_LEVEL, NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { AnnouncedLevels } from '../../src/server/announced-levels.ts';
import { metricValue, TestGroup } from './group.ts';

describe('announced feature levels', () => {
  test('F38 the lowest counts; one that was not heard, or whose link ended some time ago, may be anything', () => {
    const levels = new AnnouncedLevels();
    expect(levels.common(3, [], 0)).toBe(3);
    expect(levels.common(3, [2], 0)).toBe(0);
    levels.heard(2, 2);
    levels.heard(5, 3);
    expect(levels.common(3, [2, 5], 0)).toBe(2);
    expect(levels.common(1, [2, 5], 0)).toBe(1);
    levels.lost(2, 10_000);
    expect(levels.common(3, [2, 5], 12_000)).toBe(2);
    expect(levels.common(3, [2, 5], 14_000)).toBe(0);
    levels.heard(2, 3);
    expect(levels.common(3, [2, 5], 14_000)).toBe(3);
  });
});

describe('feature level of a group', () => {
  const level = (page: string): number => metricValue(page, 'ledgermq_broker_feature_level');

  test('F38 a new group begins at the newest level', async () => {
    await using group = await TestGroup.make();
    await group.start(1, 2, 3);
    for (const id of [1, 2, 3]) await group.until(id, '/metrics', ({ text }) => level(text) === NEWEST_FEATURE_LEVEL);
    expect(JSON.parse((await group.get(1, '/api/status')).text)).toMatchObject({
      featureLevel: NEWEST_FEATURE_LEVEL,
      newestFeatureLevel: NEWEST_FEATURE_LEVEL,
    });
  });

  test('F38 replica by replica: raised with the last one, told in the log; the older release ends when it comes back', async () => {
    await using group = await TestGroup.make();
    group.newestFeatureLevel = FIRST_FEATURE_LEVEL;
    await group.start(1, 2, 3);
    await group.ready();
    for (const id of [1, 2, 3]) {
      for (const other of [1, 2, 3]) expect(level((await group.get(other, '/metrics')).text)).toBe(FIRST_FEATURE_LEVEL);
      await group.servers.get(id)?.drain();
      await group.servers.get(id)?.stop();
      group.newestFeatureLevel = undefined;
      await group.start(id);
      await group.ready();
    }
    for (const id of [1, 2, 3]) await group.until(id, '/metrics', ({ text }) => level(text) === NEWEST_FEATURE_LEVEL);
    expect(group.lines.filter((line) => line.includes('feature level raised')).map((line) => line.trim())).toEqual([
      expect.stringContaining(`"from":${FIRST_FEATURE_LEVEL},"to":${NEWEST_FEATURE_LEVEL},"by":"all members announce it"`),
    ]);

    await group.servers.get(2)?.stop();
    group.newestFeatureLevel = FIRST_FEATURE_LEVEL;
    await group.start(2);
    const end = await group.servers.get(2)?.ended;
    expect(end?.message).toContain(`feature level ${NEWEST_FEATURE_LEVEL}, this release knows ${FIRST_FEATURE_LEVEL}`);
    expect(end?.message).toContain('start the newer release');
  });
});
