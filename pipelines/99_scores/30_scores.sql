-- Scores of models, from sums that can be added up: by minute of feature time for the control loop, by hour for people.

-- `answer` is part of the key, so that a label that comes more often for some answers than for others can be weighted.
-- `asked` less `answered` and `errors` abstained.
-- Brier is half the sum over the classes of (P(class) - [class is the label])^2, 0 to 1; log loss is that of the probability
-- clipped at 1e-15. Both are in billionths: whole numbers add up to the same sum in any order, and can be taken back.
CREATE MATERIALIZED VIEW member_scores AS
SELECT
    pipeline,
    tenant_id,
    endpoint,
    model,
    version,
    route_epoch,
    date_trunc('minute', feature_end)               AS minute_start,
    answer,
    count(*)                                        AS asked,
    count(answer)                                   AS answered,
    count(*) FILTER (WHERE error_code <> 'abstained') AS errors,
    count(label) FILTER (WHERE answer IS NOT NULL)  AS labelled,
    count(*) FILTER (WHERE label = answer)          AS correct,
    sum(confidence_e9)                              AS confidence_e9,
    sum(log_loss_e9)                                AS log_loss_e9,
    sum(brier_e9)                                   AS brier_e9
FROM member_losses
GROUP BY pipeline, tenant_id, endpoint, model, version, route_epoch, date_trunc('minute', feature_end), answer;

-- `accuracy` is that of the labelled answers: unbiased when a label's delay does not depend on the outcome.
-- `accuracy_weighted` weighs each labelled answer by the inverse share of labelled ones among the same answers of the hour (Horvitz
-- and Thompson 1952, as a ratio): unbiased also when the delay depends on the answer, but not on whether it was right.
-- `accuracy_low` and `accuracy_high` suppose nothing: all missing labels wrong, all right (Manski 1990). `coverage` is the
-- `accuracy_expected` needs no label: the mean probability of the answers, right as far as the model is calibrated. `coverage` is the
-- share of answers with a label; with answers whose kind has no label at all, the weighted one leaves those out.
CREATE VIEW model_scores AS
SELECT
    pipeline,
    tenant_id,
    endpoint,
    model,
    version,
    hour_start,
    sum(asked)::BIGINT                              AS predictions,
    sum(errors)::BIGINT                             AS errors,
    sum(labelled)::BIGINT                           AS labelled,
    (sum(answered) - sum(labelled))::BIGINT         AS missing,
    sum(labelled)::DOUBLE PRECISION / nullif(sum(answered), 0)::DOUBLE PRECISION AS coverage,
    sum(correct)::DOUBLE PRECISION / nullif(sum(labelled), 0)::DOUBLE PRECISION  AS accuracy,
    sum(answered::DOUBLE PRECISION * correct::DOUBLE PRECISION / nullif(labelled, 0)::DOUBLE PRECISION)
        / nullif(sum(answered) FILTER (WHERE labelled > 0), 0)::DOUBLE PRECISION AS accuracy_weighted,
    sum(correct)::DOUBLE PRECISION / nullif(sum(answered), 0)::DOUBLE PRECISION  AS accuracy_low,
    (sum(answered) - sum(labelled) + sum(correct))::DOUBLE PRECISION / nullif(sum(answered), 0)::DOUBLE PRECISION AS accuracy_high,
    sum(confidence_e9)::DOUBLE PRECISION / 1e9 / nullif(sum(answered), 0)::DOUBLE PRECISION AS accuracy_expected,
    sum(log_loss_e9)::DOUBLE PRECISION / 1e9 / nullif(sum(labelled), 0)::DOUBLE PRECISION AS log_loss,
    sum(brier_e9)::DOUBLE PRECISION / 1e9 / nullif(sum(labelled), 0)::DOUBLE PRECISION    AS brier
FROM (
    SELECT
        pipeline, tenant_id, endpoint, model, version, date_trunc('hour', minute_start) AS hour_start, answer,
        sum(asked)::BIGINT AS asked, sum(answered)::BIGINT AS answered, sum(errors)::BIGINT AS errors,
        sum(labelled)::BIGINT AS labelled, sum(correct)::BIGINT AS correct,
        sum(confidence_e9) AS confidence_e9, sum(log_loss_e9) AS log_loss_e9, sum(brier_e9) AS brier_e9
    FROM member_scores
    GROUP BY pipeline, tenant_id, endpoint, model, version, date_trunc('hour', minute_start), answer
) AS by_answer
GROUP BY pipeline, tenant_id, endpoint, model, version, hour_start;
