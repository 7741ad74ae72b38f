// pool-headroom in JavaScript: a pool keeps as many warm Sandboxes as claims came lately, and some percent more.

// componentize-qjs runs the module when it builds the component. It does not import JSON files.
const SCHEMA = JSON.stringify({
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "Settings of pool-headroom",
  type: "object",
  properties: {
    headroomPercent: {
      description: "Warm Sandboxes beyond the number of recent claims, in percent of it.",
      type: "integer",
      minimum: 0,
      maximum: 1000,
      default: 50,
    },
    windowSeconds: {
      description: "Length of the time whose claims count. Whole buckets of the question count.",
      type: "integer",
      minimum: 1,
      maximum: 600,
      default: 60,
    },
  },
  additionalProperties: false,
});
const DEFAULTS = { headroomPercent: 50, windowSeconds: 60 };

// componentize-qjs 0.4.5 takes a u32 for a signed number: from 2^31 on, it is negative in the question and the answer.
const u32 = (signed) => signed >>> 0;
const signed = (u32) => u32 | 0;

export const settings = {
  schema: (hook) => SCHEMA,
  validateSettings(hook, text) {
    JSON.parse(text);
  },
};

export const poolSize = {
  decide(question, text) {
    const { headroomPercent, windowSeconds } = { ...DEFAULTS, ...JSON.parse(text) };
    const bucket = Math.max(u32(question.bucketSeconds), 1);
    const arrivals = question.arrivals.slice(-Math.ceil(windowSeconds / bucket));
    const claims = arrivals.reduce((sum, arrived) => sum + u32(arrived), 0);
    const wanted = Math.ceil((claims * (100 + headroomPercent)) / 100);
    return {
      desired: signed(Math.min(Math.max(wanted, u32(question.min)), u32(question.max))),
      nextCheck: question.now + bucket * 1000,
      reason: `${claims} claims in ${windowSeconds} s, and ${headroomPercent} % headroom`,
      state: null,
    };
  },
};
