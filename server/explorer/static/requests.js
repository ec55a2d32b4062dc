// What every view does with a request: at most one in flight, the newest wins, errors become a sentence.

import { sentence } from "./api.js";
import { Latest } from "./latest.js";
import { useEffect, useMemo, useRef, useState } from "./preact.js";

// `run` makes an answer of what `send` is given; returns the last answer, the problem, and `send`.
// What failed because the server was away is sent again once it answers.
export function useRequest(api, run) {
  const [state, setState] = useState({ answer: null, problem: "" });
  const current = useRef(run);
  current.current = run;
  const forget = useRef(() => {});
  const ended = useRef(false);
  const send = useMemo(() => {
    const newest = new Latest(async (wanted) => {
      forget.current();
      try {
        const answer = await current.current(wanted);
        setState({ answer, problem: "" });
      } catch (error) {
        setState((old) => ({ ...old, problem: sentence(error) }));
        if (error.passing && !ended.current) forget.current = api.onceAnswering(() => newest.push(wanted));
      }
    });
    return (wanted) => newest.push(wanted);
  }, [api]);
  useEffect(
    () => () => {
      ended.current = true;
      forget.current();
    },
    [],
  );
  return { ...state, send };
}

// The beginning of every request.
export function to(model) {
  return { model_name: model.name, model_version: model.version };
}
