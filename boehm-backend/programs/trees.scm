; SPDX-License-Identifier: GPL-2.0-only
; For guile: trees that live on while others are dropped; prints how many leaves those have: 4096.
(define (tree depth)
  (if (= depth 0) '() (cons (tree (- depth 1)) (tree (- depth 1)))))
(define (leaves t)
  (if (null? t) 1 (+ (leaves (car t)) (leaves (cdr t)))))
(define kept (make-vector 16 '()))
(let loop ((i 0))
  (when (< i 200)
    (vector-set! kept (modulo i 16) (tree 8))
    (loop (+ i 1))))
(display (apply + (map leaves (vector->list kept))))
(newline)
