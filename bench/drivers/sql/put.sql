\set id random(1, :rows)
\set price random(1, 1000)
UPDATE items SET name = 'pgbench', price = :price, in_stock = true, version = version + 1, updated_at = now()
WHERE id = :id RETURNING id, name, price, in_stock, owner_id, version, created_at, updated_at;
