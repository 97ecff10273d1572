import { describe, expect, test } from 'vitest';
import { NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { Op } from '../../src/protocol/requests.ts';
import { BrokerHarness } from '../support/fake-broker.ts';

describe('raising the feature level', () => {
  test('F38 the first leader of a new group raises it before anything else is proposed', () => {
    const harness = new BrokerHarness({}, undefined, { retentionMs: 5000 });
    harness.featureLevel.announcedLevel = () => NEWEST_FEATURE_LEVEL;
    harness.replica.leadReady();
    expect(harness.machine.featureLevel).toBe(1);
    harness.replica.commit(2);
    expect(harness.machine.featureLevel).toBe(NEWEST_FEATURE_LEVEL);
    expect(harness.machine.setting('retentionMs')).not.toBe(5000);
    harness.replica.settle();
    expect(harness.machine.setting('retentionMs')).toBe(5000);
    expect(harness.events).toContain('feature level raised');
  });

  test('F38 not while a member was not heard or knows less; as soon as the last one announces it', async () => {
    const harness = BrokerHarness.ready();
    harness.broker.featureLevelAnnounced();
    harness.featureLevel.announcedLevel = () => 1;
    harness.broker.featureLevelAnnounced();
    harness.replica.settle();
    expect(harness.machine.featureLevel).toBe(1);
    harness.featureLevel.announcedLevel = () => NEWEST_FEATURE_LEVEL;
    harness.broker.featureLevelAnnounced();
    harness.broker.featureLevelAnnounced();
    harness.replica.settle();
    expect(harness.machine.featureLevel).toBe(NEWEST_FEATURE_LEVEL);
    expect(harness.events.filter((event) => event === 'feature level raised')).toHaveLength(1);
  });

  test('F38 a leader looks again by itself', () => {
    const harness = BrokerHarness.ready();
    harness.featureLevel.announcedLevel = () => NEWEST_FEATURE_LEVEL;
    harness.clock.advance(1_000);
    harness.replica.settle();
    expect(harness.machine.featureLevel).toBe(NEWEST_FEATURE_LEVEL);
  });

  test('F38 featureLevelAutoRaise=off: only when asked, not further than all members know, the same again is done', () => {
    const harness = BrokerHarness.ready();
    harness.featureLevel.autoRaise = false;
    const session = harness.session();
    expect(harness.ask(session, Op.featureLevelRaise, { level: NEWEST_FEATURE_LEVEL })).toBe('FEATURE_LEVEL');
    expect(harness.ask(session, Op.featureLevelRaise, { level: 0 })).toEqual({ featureLevel: 1 });
    harness.featureLevel.announcedLevel = () => NEWEST_FEATURE_LEVEL;
    harness.clock.advance(10_000);
    harness.replica.settle();
    expect(harness.machine.featureLevel).toBe(1);
    expect(harness.ask(session, Op.featureLevelRaise, { level: NEWEST_FEATURE_LEVEL + 1 })).toBe('FEATURE_LEVEL');
    for (const level of [0, NEWEST_FEATURE_LEVEL, 1]) {
      expect(harness.ask(session, Op.featureLevelRaise, { level })).toEqual({ featureLevel: NEWEST_FEATURE_LEVEL });
    }
  });

  test('F38 a replica that does not lead refuses to raise', () => {
    const harness = BrokerHarness.ready();
    const session = harness.session();
    harness.replica.follow(9);
    expect(harness.ask(session, Op.featureLevelRaise, { level: 0 })).toBe('NOT_LEADER');
  });
});
