-- +goose Up
-- When an entry was last found, to the hour: those that nobody has used for longest go first.
alter table pipeline_cache add column used bigint not null default 0;
