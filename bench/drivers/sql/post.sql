\set price random(1, 1000)
INSERT INTO items (name, price, in_stock) VALUES ('pgbench', :price, true)
RETURNING id, name, price, in_stock, owner_id, version, created_at, updated_at;
