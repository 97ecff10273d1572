import { describe, expect, test } from 'vitest';
import { Memberships } from '../../src/raft/memberships.ts';
import type { Membership } from '../../src/raft/types.ts';

describe('memberships', () => {
  test('I5 an id that another replica had is not campaigned for: who takes it over may lead from the membership on that names it', () => {
    const former: Membership = { voters: [1, 2, 3], learners: [], outgoing: null };
    const without: Membership = { voters: [1, 3], learners: [], outgoing: [1, 2, 3] };
    const itself: Membership = { voters: [1, 2, 3], learners: [], outgoing: [1, 3] };
    const isSelf = (membership: Membership): boolean => membership === itself;
    const memberships = new Memberships({ index: 0, membership: former });
    expect(memberships.mayLead(2)).toBe(true);
    expect(memberships.mayLead(2, isSelf)).toBe(false);
    memberships.append(5, without);
    expect(memberships.mayLead(2, isSelf)).toBe(false);
    memberships.append(9, itself);
    expect(memberships.mayLead(2, isSelf)).toBe(true);
    memberships.truncateFrom(9);
    expect(memberships.mayLead(2, isSelf)).toBe(false);
  });
});
