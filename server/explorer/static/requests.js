// What every view does with a request: at most one in flight, the newest wins, errors become a sentence.

import { Latest } from "./latest.js";
import { useMemo, useRef, useState } from "./preact.js";

// `run` makes an answer of what `send` is given; returns the last answer, the problem, and `send`.
export function useRequest(run) {
  const [state, setState] = useState({ answer: null, problem: "" });
  const current = useRef(run);
  current.current = run;
  const latest = useMemo(
    () =>
      new Latest(async (wanted) => {
        try {
          const answer = await current.current(wanted);
          setState({ answer, problem: "" });
        } catch (error) {
          setState((old) => ({ ...old, problem: error.message }));
        }
      }),
    [],
  );
  const send = useMemo(() => (wanted) => latest.push(wanted), []);
  return { ...state, send };
}

// The beginning of every request.
export function to(model) {
  return { model_name: model.name, model_version: model.version };
}
