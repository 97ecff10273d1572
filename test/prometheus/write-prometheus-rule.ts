import { writeFileSync } from 'node:fs';
import { PROMETHEUS_RULE_FILE, prometheusRuleText } from '../monitoring/rule-files.ts';

writeFileSync(PROMETHEUS_RULE_FILE, prometheusRuleText());
