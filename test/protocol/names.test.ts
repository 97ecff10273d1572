import { describe, expect, test } from 'vitest';
import {
  checkGroupName,
  checkNewTopicName,
  checkSendTopicName,
  checkTopicName,
  checkUserGroupName,
  dlqTopicOf,
  isReservedTopic,
  isSystemGroup,
  retryTopicOf,
} from '../../src/protocol/names.ts';

describe('F15 names', () => {
  test('letters, digits, % | - _ and nothing else', () => {
    checkTopicName('Orders-2026_eu%a|b');
    for (const name of ['', 'a b', 'a/b', '../x', 'a.b', 'é', 'a\u0000', 'a\n']) {
      expect(() => checkTopicName(name), name).toThrow('BAD_NAME');
      expect(() => checkGroupName(name), name).toThrow('BAD_NAME');
    }
  });

  test('topics have 127 characters at most, groups 120, retry and dead-letter topics 255', () => {
    checkTopicName('t'.repeat(127));
    expect(() => checkTopicName('t'.repeat(128))).toThrow('BAD_NAME');
    checkGroupName('g'.repeat(120));
    expect(() => checkGroupName('g'.repeat(121))).toThrow('BAD_NAME');
    checkTopicName(retryTopicOf('g'.repeat(120)).padEnd(255, 'x'));
    expect(() => checkTopicName(dlqTopicOf('g').padEnd(256, 'x'))).toThrow('BAD_NAME');
  });

  test('system names are not for users', () => {
    for (const topic of ['TBW102', 'rmq_sys_wheel_timer', 'CHECKPOINT_TOPIC', 'x_REPLY_TOPIC', '%RETRY%g', '%DLQ%g', '%LMQ%q']) {
      expect(isReservedTopic(topic), topic).toBe(true);
      expect(() => checkNewTopicName(topic), topic).toThrow('BAD_NAME');
    }
    checkNewTopicName('orders');
    expect(() => checkSendTopicName('SCHEDULE_TOPIC_XXXX')).toThrow('BAD_NAME');
    checkSendTopicName('RMQ_SYS_TRACE_TOPIC');
    checkSendTopicName('%RETRY%g');
    for (const group of ['TOOLS_CONSUMER', 'CID_RMQ_SYS_x', 'CID_ONSAPI_OWNER']) {
      expect(isSystemGroup(group)).toBe(true);
      expect(() => checkUserGroupName(group)).toThrow('BAD_NAME');
      checkGroupName(group);
    }
    checkUserGroupName('orders-service');
  });
});
